"""Easel's gateway; only `web/routing.py` knows that it runs under Chalice."""

__version__ = "0.1.0"
