"""Artwork, pools and tokenizers small enough to be made on the spot."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import CLIPTokenizer

from model_package.demo.data.captions import Captioner
from model_package.demo.data.compose import Composer, SpecMaker
from model_package.demo.data.things import Artwork, all_things
from model_package.demo.tokens import load_tokenizer, write_tokenizer


def draw_apple() -> Image.Image:
    """A red disc with a green leaf, on nothing."""
    picture = Image.new("RGBA", (128, 128))
    draw = ImageDraw.Draw(picture)
    draw.ellipse([14, 24, 114, 124], fill=(210, 30, 30, 255))
    draw.rectangle([60, 4, 76, 20], fill=(40, 160, 60, 255))
    return picture


@pytest.fixture
def apple() -> Image.Image:
    return draw_apple()


@pytest.fixture(scope="session")
def artwork() -> Artwork:
    """An apple for every thing: enough where only places and colours matter."""
    return [draw_apple() for _ in all_things()]


@pytest.fixture(scope="session")
def composer(artwork: Artwork) -> Composer:
    return Composer(artwork)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    rng = np.random.default_rng(0)
    maker, captioner = SpecMaker(rng), Captioner(rng)
    write_tokenizer([captioner.caption(maker.make()) for _ in range(4000)], folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> CLIPTokenizer:
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Several test processes at once stay quick."""
    torch.set_num_threads(1)
