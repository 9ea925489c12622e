import numpy as np
import pytest
from PIL import Image, ImageDraw

from model_package.demo.data.colours import COLOUR_NAMES, COLOURS, recolour

BODY = (64, 80)  # a pixel of the apple
LEAF = (68, 10)


@pytest.fixture
def cloud():
    """Something without a hue of its own."""
    picture = Image.new("RGBA", (128, 128))
    ImageDraw.Draw(picture).ellipse([10, 30, 118, 100], fill=(200, 204, 208, 255))
    return picture


@pytest.mark.parametrize("colour", COLOUR_NAMES)
def test_a_thing_lands_on_the_named_colour(apple, colour):
    actual = recolour(apple, colour).getpixel(BODY)
    assert np.abs(np.subtract(actual[:3], COLOURS[colour])).max() <= 12


@pytest.mark.parametrize("colour", COLOUR_NAMES)
def test_a_thing_without_a_hue_is_tinted(cloud, colour):
    actual = recolour(cloud, colour).getpixel((64, 64))
    assert np.abs(np.subtract(actual[:3], COLOURS[colour])).max() <= 12


def test_parts_of_another_hue_stay_as_they_are(apple):
    assert recolour(apple, "blue").getpixel(LEAF) == apple.getpixel(LEAF)


def test_the_outline_stays(apple):
    recoloured = recolour(apple, "purple")
    assert recoloured.getchannel("A").tobytes() == apple.getchannel("A").tobytes()


def test_shading_stays(apple):
    ImageDraw.Draw(apple).rectangle([40, 60, 60, 70], fill=(120, 10, 10, 255))
    recoloured = recolour(apple, "green")
    darker, lighter = recoloured.getpixel((50, 65)), recoloured.getpixel((64, 100))
    assert sum(darker[:3]) < sum(lighter[:3])
