import json
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded.json"

# Collected only where it is named: it needs another environment, and `test_on_chip.py` runs it.
collect_ignore = ["on_chip"]


@pytest.fixture(scope="session")
def recorded():
    """What the real optimum-neuron does: its files, its blocks in config.json, its parameters."""
    return json.loads(RECORDED.read_text())
