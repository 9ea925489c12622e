"""One module per benchmark, in a folder per part: what `python -m tests.benchmarks NAME` runs."""
