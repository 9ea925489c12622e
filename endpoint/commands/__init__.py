"""The commands without a file of their own in `endpoint/`: `python -m endpoint NAME` runs them."""
