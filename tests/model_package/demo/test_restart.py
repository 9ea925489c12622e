import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from model_package.demo import pool, restart, tokens, train_decoder, train_text, train_unet
from model_package.demo.data.codec import Codec
from model_package.demo.export import CODEC_NAME
from model_package.demo.pool import draw_pictures
from model_package.demo.work_dir import WEIGHTS


@pytest.fixture
def work_dir(tmp_path, monkeypatch):
    """An empty one, in place of the real."""
    for module in (pool, restart):
        monkeypatch.setattr(module, "CODEC_FILE", tmp_path / "codec.npz")
    monkeypatch.setattr(train_unet, "START", tmp_path / "unet-start")
    for module in (tokens, train_text, train_decoder):
        monkeypatch.setattr(module, "FOLDER", tmp_path / module.__name__)
    return tmp_path


def test_every_training_goes_on_from_the_exported_weights(work_dir):
    restart.restart(WEIGHTS)
    assert_same(train_unet.first_unet(), UNet2DConditionModel.from_pretrained(WEIGHTS / "unet"))
    assert_same(train_decoder.load_autoencoder(), AutoencoderKL.from_pretrained(WEIGHTS / "vae"))
    written = load_file(WEIGHTS / "text_encoder" / "model.safetensors")
    read = train_text.load_text_encoder().state_dict()
    assert len(read) == len(written)
    for name, weight in read.items():
        assert torch.equal(weight, written["text_model." + name.removeprefix("text_model.")])


def test_a_second_restart_keeps_what_has_been_trained_since(work_dir):
    restart.restart(WEIGHTS)
    (work_dir / "codec.npz").write_bytes(b"another")
    before = {path: path.stat().st_mtime_ns for path in work_dir.rglob("*") if path.is_file()}
    restart.restart(WEIGHTS)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_without_a_restart_the_unet_begins_untrained(work_dir):
    torch.manual_seed(0)
    first = train_unet.first_unet()
    torch.manual_seed(0)
    assert_same(first, train_unet.new_unet())


def test_the_codec_next_to_the_weights_is_the_one_they_were_trained_with(
    composer,
):
    # The autoencoder was taught this very code: with another basis, or another sign of a component,
    # the two would have nothing to do with each other.
    _, pictures = draw_pictures(composer, 8, seed=1)
    with torch.no_grad():
        learnt = AutoencoderKL.from_pretrained(WEIGHTS / "vae").float().encode(pictures)
    latents = Codec.load(WEIGHTS / CODEC_NAME).encode(pictures)
    for actual, expected in zip(
        learnt.latent_dist.mean.movedim(1, 0), latents.movedim(1, 0), strict=True
    ):
        assert torch.corrcoef(torch.stack([actual.flatten(), expected.flatten()]))[0, 1] > 0.8


def assert_same(one, other):
    theirs = other.float().state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in one.state_dict().items())
