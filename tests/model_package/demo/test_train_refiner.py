import pytest
import torch
from torch import nn

from model_package.demo import train_refiner, train_unet
from model_package.demo.data.compose import Spec
from model_package.demo.pool import Pool
from model_package.demo.train_refiner import (
    LAST,
    FinishingObjective,
    copy_outer_half,
    mean_loss,
    new_refiner,
    outer_name,
)
from model_package.demo.train_unet import new_unet
from model_package.demo.training.trainer import Rng


class Silent(nn.Module):
    """Returns zeros."""

    def forward(self, noisy, times, ids):
        assert times.max() < LAST
        return torch.zeros_like(noisy)


@pytest.fixture
def objective(tokenizer, monkeypatch):
    monkeypatch.setattr(train_unet, "load_tokenizer", lambda: tokenizer)
    latents = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    return FinishingObjective(Pool([Spec(0, 3)] * 4, latents.half()))


@pytest.fixture(scope="module")
def unets():
    torch.manual_seed(0)
    return new_unet(), new_refiner()


def test_the_refiner_only_learns_the_last_time_steps(objective):
    times = objective.times(Rng(0))
    assert int(times.min()) < LAST // 10
    assert LAST * 9 // 10 < int(times.max()) < LAST


def test_the_comparison_is_made_on_the_same_noise_each_time(objective, monkeypatch):
    monkeypatch.setattr(train_refiner, "COMPARED", 2)
    assert mean_loss(Silent(), objective) == mean_loss(Silent(), objective) > 0.1


def test_the_refiner_begins_with_the_bases_outer_half(
    unets,
):
    base, refiner = unets
    copied = copy_outer_half(base, refiner)
    assert copied > 0.85 * sum(weight.numel() for weight in refiner.parameters())
    assert torch.equal(refiner.conv_out.weight, base.conv_out.weight)
    ours, theirs = refiner.up_blocks[-1], base.up_blocks[-1]
    assert torch.equal(ours.resnets[0].conv1.weight, theirs.resnets[0].conv1.weight)


def test_blocks_on_the_way_up_are_counted_from_one_level_deeper():
    assert outer_name("up_blocks.2.resnets.0.conv1.weight") == "up_blocks.1.resnets.0.conv1.weight"
    assert outer_name("down_blocks.1.resnets.0.conv1.bias") == "down_blocks.1.resnets.0.conv1.bias"


def test_the_refiner_is_a_few_megabytes(
    unets,
):
    assert 2 * sum(weight.numel() for weight in unets[1].parameters()) < 7_000_000
