"""What Easel's gateway is made of; only `web` knows that it runs under Chalice."""

__version__ = "0.1.0"
