"""Benchmarks of the model package."""
