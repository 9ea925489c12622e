import pytest
import torch

from easel.loading.pipeline import load_pipeline
from easel.loading.refiner import load_refiner
from model_package.stand_in import make_stand_in
from tests.benchmarks.lib.model_package import variants
from tests.benchmarks.lib.model_package.full_size import ModelSpec

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}


@pytest.fixture(scope="session")
def tiny_ensemble(tmp_path_factory):
    return make_stand_in(tmp_path_factory.mktemp("ensemble"), kind="ensemble")


@pytest.fixture
def narrow(monkeypatch, tiny_ensemble):
    """A model named "narrow", of SDXL's shape with its refiner, both tiny.

    Returns the pairs of pipelines that were made of it.
    """
    made = []

    def pair():
        base = load_pipeline(tiny_ensemble / "base", **HOW)
        made.append([base, load_refiner(tiny_ensemble / "refiner", base, **HOW)])
        return made[-1]

    spec = ModelSpec(pair, steps=5, guidance_scale=5.0, side=64)
    monkeypatch.setitem(variants.MODELS, "narrow", spec)
    return made
