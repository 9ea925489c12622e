import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from model_package.demo import train_unet
from model_package.demo.data.compose import Spec
from model_package.demo.pipeline import NOISING, new_scheduler
from model_package.demo.pool import Pool
from model_package.demo.train_unet import UNetObjective
from model_package.demo.training.trainer import Rng


class Oracle(nn.Module):
    """Returns the exact velocity, computed from the clean image."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture
        self.noising = DDPMScheduler(**NOISING)
        self.captions: list[Tensor] = []

    def forward(self, noisy, times, ids):
        self.captions.append(ids)
        kept = self.noising.alphas_cumprod[times].view(-1, 1, 1, 1)
        noise = (noisy - kept.sqrt() * self.picture) / (1 - kept).sqrt()
        return kept.sqrt() * noise - (1 - kept).sqrt() * self.picture


@pytest.fixture
def picture():
    return torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(0)).half().float()


@pytest.fixture
def objective(picture, tokenizer, monkeypatch):
    monkeypatch.setattr(train_unet, "load_tokenizer", lambda: tokenizer)
    return UNetObjective(Pool([Spec(0, 3)] * 4, picture.half().expand(4, -1, -1, -1).clone()))


def test_one_who_knows_the_picture_makes_no_mistake(objective, picture):
    assert float(objective(Oracle(picture), Rng(0))) < 1e-4


def test_one_who_thinks_of_another_picture_does(objective, picture):
    assert float(objective(Oracle(-picture), Rng(0))) > 0.1


def test_some_pictures_are_learnt_without_words(objective):
    captions = objective.captions([0] * 1000, Rng(0))
    assert 60 < captions.count("") < 140


def test_time_steps_are_spread_over_the_whole_way(objective):
    times = objective.times(Rng(0))
    assert times.min() < 100
    assert times.max() > 900
    assert times.diff().min() >= 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_sampling_starts_from_noise_alone():
    scheduler = new_scheduler()
    scheduler.set_timesteps(20)
    assert int(scheduler.timesteps[0]) == NOISING["num_train_timesteps"] - 1
    assert float(scheduler.alphas_cumprod[-1]) < 1e-3
