"""Looks that a LoRA can teach the demo model: each turns a picture into one in that look."""

from collections.abc import Callable

from PIL import Image, ImageChops, ImageFilter, ImageOps

BLOCKS = 16  # of the pixel look, on each side: one for each latent
INK, PAPER = (25, 25, 60), (255, 255, 255)
PRESSURE = 2.2  # how much darker than the edge it stands for a line is

Style = Callable[[Image.Image], Image.Image]


def pixel(picture: Image.Image) -> Image.Image:
    """Large square blocks of one colour each, as on an early console."""
    small = picture.resize((BLOCKS, BLOCKS), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.NEAREST)


def outline(picture: Image.Image) -> Image.Image:
    """Dark lines on white paper, where colours meet."""
    soft = picture.filter(ImageFilter.GaussianBlur(1))
    light, dark = soft.filter(ImageFilter.MaxFilter(5)), soft.filter(ImageFilter.MinFilter(3))
    red, green, blue = ImageChops.subtract(light, dark).split()
    edges = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    lines = edges.point([min(255, round(PRESSURE * level)) for level in range(256)])
    return ImageOps.colorize(ImageOps.invert(lines), INK, PAPER)


STYLES: dict[str, Style] = {"pixel": pixel, "outline": outline}
