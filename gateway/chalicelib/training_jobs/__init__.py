"""Training jobs: their places in S3, their request, price, progress and state.

The scripts and the gateway have the same files. They use the standard library and `generation.py`
only; `dataset.py`, `failures.py`, `job.py` and `kohya.py` are the trainer's own.
"""
