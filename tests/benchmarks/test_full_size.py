import pytest
import torch

from tests.benchmarks.full_size import KINDS, make


@pytest.mark.parametrize("name", KINDS)
def test_the_models_have_as_many_weights_as_the_published_ones(name):
    found = make(KINDS[name], torch.float16, torch.device("meta"))
    assert len(found) == (2 if name == "sdxl-refiner" else 1)
    for part, weights in KINDS[name].weights.items():
        assert sum(each.numel() for each in getattr(found[0], part).parameters()) == weights
