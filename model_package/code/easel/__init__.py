"""Easel's own code, as `inference.py` uses it."""
