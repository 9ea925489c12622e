"""Artwork, pools and tokenizers small enough to be made on the spot."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from model_package.demo.data.captions import Captioner
from model_package.demo.data.compose import Composer, SpecMaker
from model_package.demo.data.things import all_things
from model_package.demo.tokens import load_tokenizer, write_tokenizer


def draw_apple():
    """A red disc with a green leaf, on nothing."""
    picture = Image.new("RGBA", (128, 128))
    draw = ImageDraw.Draw(picture)
    draw.ellipse([14, 24, 114, 124], fill=(210, 30, 30, 255))
    draw.rectangle([60, 4, 76, 20], fill=(40, 160, 60, 255))
    return picture


@pytest.fixture
def apple():
    return draw_apple()


@pytest.fixture(scope="session")
def artwork():
    """An apple for every thing: enough where only places and colours matter."""
    return [draw_apple() for _ in all_things()]


@pytest.fixture(scope="session")
def composer(artwork):
    return Composer(artwork)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    rng = np.random.default_rng(0)
    maker, captioner = SpecMaker(rng), Captioner(rng)
    write_tokenizer([captioner.caption(maker.make()) for _ in range(4000)], folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(autouse=True)
def one_thread():
    """Several test processes at once stay quick."""
    torch.set_num_threads(1)
