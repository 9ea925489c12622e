import pytest
import torch

from model_package.demo.data.codec import Codec
from model_package.demo.pool import draw_pictures


@pytest.fixture(scope="module")
def pictures(composer):
    return draw_pictures(composer, 64, seed=1)[1]


@pytest.fixture(scope="module")
def codec(pictures):
    return Codec.fit(pictures)


def test_latents_have_the_unets_shape_and_about_unit_variance(codec, pictures):
    latents = codec.encode(pictures)
    assert latents.shape == (64, 8, 16, 16)
    assert float(latents.square().mean()) == pytest.approx(1, abs=0.05)


def test_a_picture_comes_back_but_for_its_finest_detail(codec, pictures):
    back = codec.decode(codec.encode(pictures))
    assert back.shape == pictures.shape
    assert float((back - pictures).square().mean()) < 0.02


def test_what_was_kept_is_kept_again(codec):
    latents = 0.05 * torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    patches = (latents.movedim(1, -1) / codec.scale) @ codec.basis.T
    assert torch.allclose((patches @ codec.basis * codec.scale).movedim(-1, 1), latents, atol=1e-5)


def test_a_saved_codec_is_the_same(codec, pictures, tmp_path):
    codec.save(tmp_path / "codec.npz")
    again = Codec.load(tmp_path / "codec.npz")
    assert torch.equal(again.encode(pictures[:2]), codec.encode(pictures[:2]))


def test_the_same_seed_draws_the_same_pictures(composer):
    (first, shown), (second, again) = (draw_pictures(composer, 5, seed=9) for _ in range(2))
    assert first == second
    assert torch.equal(shown, again)
