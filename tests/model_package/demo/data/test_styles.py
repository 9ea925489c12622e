import numpy as np
import pytest
from PIL import Image

from model_package.demo.data.styles import BLOCKS, STYLES, outline, pixel


@pytest.fixture
def picture(apple):
    """A red disc on white."""
    canvas = Image.new("RGB", apple.size, "white")
    canvas.paste(apple, (0, 0), apple)
    return canvas


def test_a_block_of_the_pixel_look_has_one_colour(picture):
    side = picture.width // BLOCKS
    blocks = np.asarray(pixel(picture)).reshape(BLOCKS, side, BLOCKS, side, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert len(np.unique(blocks.reshape(-1, 3), axis=0)) > 2


def test_an_outline_is_dark_where_colours_meet_and_paper_elsewhere(picture):
    lines = outline(picture)
    assert max(lines.getpixel((14, 74))) < 120  # the disc's left edge
    assert min(lines.getpixel((64, 74))) > 240  # its middle
    assert min(lines.getpixel((3, 3))) > 240  # next to the line


@pytest.mark.parametrize("name", STYLES)
def test_every_look_keeps_the_size(picture, name):
    drawn = STYLES[name](picture)
    assert drawn.size == picture.size
    assert drawn.mode == "RGB"
