"""Benchmarks of the endpoint scripts."""
