import pytest
import torch

from easel.lora.adapters import Loras
from model_package.demo import train_lora
from model_package.demo.data.codec import Codec
from model_package.demo.data.styles import pixel
from model_package.demo.export import CODEC_NAME
from model_package.demo.pipeline import assemble
from model_package.demo.tokens import load_tokenizer
from model_package.demo.train_decoder import new_autoencoder
from model_package.demo.train_lora import add_lora, draw_pool, save_lora
from model_package.demo.train_text import new_text_encoder
from model_package.demo.train_unet import new_unet
from model_package.demo.work_dir import WEIGHTS


@pytest.fixture
def taught():
    torch.manual_seed(0)
    return add_lora(new_unet())


def test_only_the_additions_are_trained(taught):
    moving = {name for name, weight in taught.named_parameters() if weight.requires_grad}
    assert moving
    assert all("lora_" in name for name in moving)


def test_at_first_the_additions_change_nothing(taught):
    torch.manual_seed(0)
    plain = new_unet()
    inputs = (torch.randn(1, 8, 16, 16), torch.tensor([500]), torch.randn(1, 77, 192))
    with torch.no_grad():
        assert torch.allclose(taught(*inputs).sample, plain(*inputs).sample, atol=1e-5)


def test_the_file_is_small_and_is_offered_by_the_model_package(taught, tokenizer_folder, tmp_path):
    path = tmp_path / "pixel.safetensors"
    save_lora(taught.to(memory_format=torch.channels_last), path)
    assert path.stat().st_size < 1_000_000
    tokenizer = load_tokenizer(tokenizer_folder)
    pipeline = assemble(new_unet(), new_text_encoder(), tokenizer, new_autoencoder())
    assert Loras([("pixel", path)], [pipeline]).names == ["pixel"]


def test_a_pool_in_a_look_is_flat_where_the_look_is(composer, monkeypatch):
    monkeypatch.setattr(train_lora, "DRAWN_AT_ONCE", 2)
    monkeypatch.setattr(train_lora, "TIMES", 2)
    codec = Codec.load(WEIGHTS / CODEC_NAME)
    pool = draw_pool(pixel, composer, codec)
    plain = draw_pool(lambda picture: picture, composer, codec)
    assert pool.specs == plain.specs
    # Three numbers determine a block of one colour; the others are equal in all blocks.
    ours, theirs = (images.latents.float().var((0, 2, 3)) for images in (pool, plain))
    assert int((ours < 0.02 * ours.max()).sum()) > int((theirs < 0.02 * theirs.max()).sum())
