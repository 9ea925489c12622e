from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    """Keep what torch compiles away from the user's, and forget it after the test."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
