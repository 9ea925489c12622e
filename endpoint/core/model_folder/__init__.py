"""What a model folder consists of, and whether its files are what they should be.

The container and the scripts that upload a model both need this, and neither imports the other, so
there are two copies: `model_package/code/easel/model_folder` is the one to edit, and
`tests/test_copies.py` compares `endpoint/core/model_folder` with it. Only the standard library is
used, because the scripts run without torch.
"""
