from __future__ import annotations

import os

import pytest
import torch

from model_package.stand_in import make_stand_in
from tests.model_package.doubles.toolkit import Toolkit

# Two threads that wait for each other on a busy machine take many times longer than one.
torch.set_num_threads(1)

# Small and quick; the stand-in's own easel.json says 256 x 256.
QUICK = '{"steps": 2, "width": 64, "height": 64}'


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Start each test without settings, except for quick defaults."""
    for name in list(os.environ):
        if name.startswith(("EASEL_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EASEL_DEFAULTS", QUICK)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """Return a function that makes a stand-in model, each kind once."""
    made = {}

    def make(**options):
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = make_stand_in(tmp_path_factory.mktemp("model"), **options)
        return made[key]

    return make


@pytest.fixture(scope="session")
def quick_toolkit(stand_in):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EASEL_DEFAULTS", QUICK)
        return Toolkit(stand_in())
