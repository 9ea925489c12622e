import pytest
import torch

from easel.speed.eight_bits import EightBits, denoiser_layers
from tests.benchmarks.lib.model_package.full_size import MODELS, make


@pytest.mark.parametrize("name", MODELS)
def test_the_models_have_as_many_weights_as_the_published_ones(name):
    pipelines = make(MODELS[name], torch.float16, torch.device("meta"))
    assert len(pipelines) == (2 if name == "sdxl-refiner" else 1)
    for part, weights in MODELS[name].weights.items():
        assert sum(each.numel() for each in getattr(pipelines[0], part).parameters()) == weights


def test_in_8_bits_the_unets_of_sdxl_and_its_refiner_take_half_of_9_gib():
    pipelines = make(MODELS["sdxl-refiner"], torch.float16, torch.device("meta"))

    def gibibytes():
        weights = [each for pipeline in pipelines for each in pipeline.unet.parameters()]
        return round(sum(each.numel() * each.element_size() for each in weights) / 2**30, 1)

    before = gibibytes()
    EightBits(denoiser_layers(pipelines)).start()
    assert (before, gibibytes()) == (9.0, 4.5)
