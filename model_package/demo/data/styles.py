"""Styles that LoRAs are trained for: each function converts an image to its style."""

from collections.abc import Callable

from PIL import Image, ImageChops, ImageFilter, ImageOps

BLOCKS = 16  # on each side, in the pixel style: one for each latent
INK, PAPER = (25, 25, 60), (255, 255, 255)
PRESSURE = 2.2  # the contrast of a line, relative to its edge

Style = Callable[[Image.Image], Image.Image]


def pixel(picture: Image.Image) -> Image.Image:
    """Large square blocks of one colour each, as in early video games."""
    small = picture.resize((BLOCKS, BLOCKS), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.NEAREST)


def outline(picture: Image.Image) -> Image.Image:
    """Dark lines on white paper, at the borders between colours."""
    soft = picture.filter(ImageFilter.GaussianBlur(1))
    light, dark = soft.filter(ImageFilter.MaxFilter(5)), soft.filter(ImageFilter.MinFilter(3))
    red, green, blue = ImageChops.subtract(light, dark).split()
    edges = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    lines = edges.point([min(255, round(PRESSURE * level)) for level in range(256)])
    return ImageOps.colorize(ImageOps.invert(lines), INK, PAPER)


STYLES: dict[str, Style] = {"pixel": pixel, "outline": outline}
