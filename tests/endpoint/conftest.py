from __future__ import annotations

import pytest

from endpoint.provision.files import payload
from endpoint.provision.gateway import gateway_project
from tests.endpoint.world import empty_account


@pytest.fixture
def world(serving_code):
    with empty_account() as account:
        yield account


@pytest.fixture
def projects(tmp_path, monkeypatch):
    """The folder of the gateways' projects, in the place of the caller's own."""
    folder = tmp_path / ".easel"
    monkeypatch.setattr(gateway_project, "PROJECTS", folder)
    return folder


@pytest.fixture
def serving_code(tmp_path, monkeypatch):
    """Serving code of two files, in the repository's place."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "inference.py").write_text("import generation\n")
    (folder / "generation.py").write_text("STEPS = 25\n")
    monkeypatch.setattr(payload, "CODE", folder)
    return folder
