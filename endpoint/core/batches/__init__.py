"""Batches: files of many requests, their pictures' places in S3, and the lines of the results.

The scripts and the gateway have the same files. They use the standard library and `generation.py`
only. `automatic1111.py`, `openai.py`, `prompt_tags.py` and `values.py` are also how the gateway
reads one request of these APIs.
"""
