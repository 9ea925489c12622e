"""Benchmarks that anyone can run: `python -m tests.benchmarks --list`."""

import sys
from pathlib import Path

# As pyproject.toml has it for pytest: what is shipped alone imports its own modules by bare names.
_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT / "gateway"), str(_ROOT / "model_package" / "code")]
