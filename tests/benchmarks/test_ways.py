import pytest
import torch

import easel_refiner
from easel_pipeline import load_pipeline
from model_package.stand_in import make_stand_in
from tests.benchmarks import gpu, ways
from tests.benchmarks.full_size import Kind

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}


@pytest.fixture
def narrow(monkeypatch, tmp_path):
    """A model of SDXL's shape with its refiner, both tiny; return the pairs that were made."""
    folder = make_stand_in(tmp_path, kind="ensemble")
    made = []

    def pair():
        base = load_pipeline(folder / "base", **HOW)
        made.append([base, easel_refiner.load_refiner(folder / "refiner", base, **HOW)])
        return made[-1]

    kind = Kind(pair, steps=5, guidance_scale=5.0, side=64)
    monkeypatch.setitem(ways.KINDS, "narrow", kind)
    return made


def test_the_guides_recipe_paints_the_same_picture_whether_its_parts_are_shared(narrow):
    kind = ways.kind_of("narrow")
    shared = ways.build_way("narrow", kind, ways.PLAIN).paint(5)
    apart = ways.build_way("narrow", kind, ways.GUIDE_APART).paint(5)
    assert shared == apart
    shares = [[base.vae is refiner.vae for base, refiner in narrow]]
    shares += [[base.text_encoder_2 is refiner.text_encoder_2 for base, refiner in narrow]]
    assert shares == [[True, False]] * 2


def test_base_and_refiner_are_measured_as_easel_has_them(narrow):
    found = gpu.measure("narrow", ways.kind_of("narrow"), "Easel", None, rounds=2)
    assert found.report["sampler"] == "own"
    assert found.pixels.shape == (64, 64, 3)
