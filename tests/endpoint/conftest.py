from __future__ import annotations

import pytest

from endpoint.provision.files import payload
from tests.endpoint.world import empty_account


@pytest.fixture
def world(serving_code):
    with empty_account() as account:
        yield account


@pytest.fixture
def serving_code(tmp_path, monkeypatch):
    """Serving code of two files, in the repository's place."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "inference.py").write_text("import generation\n")
    (folder / "generation.py").write_text("STEPS = 25\n")
    monkeypatch.setattr(payload, "CODE", folder)
    return folder
