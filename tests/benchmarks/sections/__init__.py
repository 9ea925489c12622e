"""One module per benchmark: what `python -m tests.benchmarks NAME` runs."""
