"""A model server around `inference.py`: `python -m server`, on SageMaker and anywhere else.

Its modules import one another relatively: the package is `server` where it runs, and
`model_package.server` in the tests. It imports nothing of `easel`, so it serves other scripts too.
"""
