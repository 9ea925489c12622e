import pytest
import torch

from model_package.demo.data.codec import Codec
from model_package.demo.data.styles import STYLES
from model_package.demo.pool import draw_pictures
from model_package.demo.train_decoder import DecoderObjective, new_autoencoder, picture_loss
from model_package.demo.training.trainer import Rng


@pytest.fixture
def objective(composer):
    return DecoderObjective(composer, Codec.fit(draw_pictures(composer, 32, seed=1)[1]))


def test_a_perfect_picture_costs_nothing():
    picture = torch.rand(2, 3, 16, 16) * 2 - 1
    assert float(picture_loss(picture, picture)) == 0


def test_a_lost_edge_costs_more_than_a_wrong_shade():
    right = torch.zeros(1, 1, 16, 16)
    right[..., 8:] = 1.0
    without_edge = torch.full_like(right, 0.5)
    shifted = right + 0.5
    assert picture_loss(without_edge, right) > picture_loss(shifted, right)


def test_a_batch_teaches_the_decoder(objective):
    autoencoder = new_autoencoder()
    objective(autoencoder, Rng(0)).backward()
    assert autoencoder.decoder.conv_in.weight.grad.abs().sum() > 0


def test_the_same_rng_gives_the_same_batch(objective):
    torch.manual_seed(0)
    autoencoder = new_autoencoder().eval()
    with torch.no_grad():
        assert objective(autoencoder, Rng(3)).equal(objective(autoencoder, Rng(3)))


def test_some_batches_are_in_a_look_and_most_are_not():
    rng = Rng(0)
    looks = [DecoderObjective.pick_style(rng) for _ in range(400)]
    assert {None, *STYLES.values()} == set(looks)
    assert 250 < looks.count(None) < 370
