"""Proving on a real account that Easel works there, and what AWS really does."""
