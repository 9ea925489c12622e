"""Backgrounds: white or pale, a named colour, or a drawn scene."""

import random
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from model_package.demo.data.colours import COLOUR_NAMES, COLOURS
from model_package.demo.work_dir import PICTURE_SIZE

Rgb = tuple[int, int, int]
SceneDrawer = Callable[[ImageDraw.ImageDraw, random.Random], None]

# Every scene has several layouts, so that seeds differ; more would take more training.
LAYOUTS = 3
OVERSAMPLE = 2  # drawn larger and reduced, for smooth edges
SIDE = PICTURE_SIZE * OVERSAMPLE

# Without a background in the prompt it is white, or one of these pale tints.
PALE: tuple[Rgb, ...] = (
    (255, 238, 238),
    (255, 245, 224),
    (236, 248, 236),
    (228, 242, 252),
    (242, 236, 250),
)


def blend(draw: ImageDraw.ImageDraw, top: Rgb, bottom: Rgb, until: float = 1.0) -> None:
    """Fill the upper part of the picture with a vertical gradient."""
    height = int(SIDE * until)
    for y in range(height):
        share = y / max(height - 1, 1)
        row = tuple(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
        draw.line([(0, y), (SIDE, y)], fill=row)


def ground(draw: ImageDraw.ImageDraw, top: float, colour: Rgb) -> None:
    """Fill the picture from a height (a share of its side) down to the bottom."""
    draw.rectangle([0, SIDE * top, SIDE, SIDE], fill=colour)


def disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Rgb) -> None:
    """A filled circle; all lengths are shares of the side."""
    box = [SIDE * (x - radius), SIDE * (y - radius), SIDE * (x + radius), SIDE * (y + radius)]
    draw.ellipse(box, fill=colour)


def dots(draw: ImageDraw.ImageDraw, rng: random.Random, count: int, size: float) -> None:
    """White dots anywhere: stars, snowflakes."""
    for _ in range(count):
        disc(draw, rng.random(), rng.random(), size * rng.uniform(0.6, 1.3), (255,) * 3)


def draw_space(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Almost black, with stars."""
    blend(draw, (14, 8, 40), (4, 4, 18))
    dots(draw, rng, 28, 0.007)


def draw_night(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Dark blue with a moon over dark land."""
    blend(draw, (16, 26, 72), (44, 60, 120), 0.8)
    dots(draw, rng, 10, 0.006)
    ground(draw, 0.8, (18, 28, 48))
    disc(draw, 0.85, 0.14, 0.09, (250, 244, 200))


def draw_grass(draw: ImageDraw.ImageDraw, _: random.Random) -> None:
    """Blue sky over a meadow."""
    blend(draw, (120, 195, 250), (205, 234, 252), 0.62)
    ground(draw, 0.62, (104, 186, 72))


def draw_beach(draw: ImageDraw.ImageDraw, _: random.Random) -> None:
    """Sky, sea and sand."""
    blend(draw, (140, 210, 250), (215, 240, 252), 0.42)
    draw.rectangle([0, SIDE * 0.42, SIDE, SIDE * 0.66], fill=(42, 140, 205))
    ground(draw, 0.66, (240, 218, 160))


def draw_sunset(draw: ImageDraw.ImageDraw, _: random.Random) -> None:
    """Purple into orange, a low sun, dark land."""
    blend(draw, (104, 62, 140), (250, 150, 80), 0.78)
    disc(draw, 0.78, 0.72, 0.13, (255, 222, 120))
    ground(draw, 0.78, (70, 42, 70))


def draw_snow(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Pale sky, white ground, falling flakes."""
    blend(draw, (150, 180, 214), (205, 222, 240), 0.68)
    ground(draw, 0.68, (246, 249, 253))
    dots(draw, rng, 22, 0.012)


def draw_underwater(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Deep blue-green with bubbles over a sandy floor."""
    blend(draw, (56, 178, 214), (8, 74, 140), 0.86)
    ground(draw, 0.86, (190, 176, 128))
    for _ in range(7):
        disc(draw, rng.random(), rng.uniform(0, 0.8), 0.02, (150, 220, 240))


def draw_desert(draw: ImageDraw.ImageDraw, _: random.Random) -> None:
    """Hot sky, a sun, dunes."""
    blend(draw, (250, 214, 150), (252, 236, 196), 0.64)
    disc(draw, 0.14, 0.14, 0.09, (255, 240, 130))
    ground(draw, 0.64, (222, 166, 92))
    box = [SIDE * -0.3, SIDE * 0.56, SIDE * 0.6, SIDE * 1.1]
    draw.ellipse(box, fill=(206, 146, 76))


def draw_forest(draw: ImageDraw.ImageDraw, _: random.Random) -> None:
    """A row of firs behind a dark meadow."""
    blend(draw, (178, 216, 190), (206, 232, 206), 0.75)
    for x in (0.02, 0.2, 0.38, 0.56, 0.74, 0.92):
        tip = (SIDE * (x + 0.04), SIDE * 0.16)
        foot = [(SIDE * (x - 0.09), SIDE * 0.75), (SIDE * (x + 0.17), SIDE * 0.75)]
        draw.polygon([tip, *foot], fill=(46, 112, 72))
    ground(draw, 0.75, (58, 96, 50))


def draw_city(draw: ImageDraw.ImageDraw, _: random.Random) -> None:
    """A hazy skyline behind a street."""
    blend(draw, (190, 208, 226), (226, 232, 238), 0.8)
    for index, height in enumerate((0.34, 0.52, 0.22, 0.44, 0.3, 0.5, 0.26)):
        left = SIDE * index / 7
        box = [left, SIDE * height, left + SIDE / 7 - SIDE / 64, SIDE * 0.8]
        draw.rectangle(box, fill=(134, 148, 170) if index % 2 else (154, 166, 186))
    ground(draw, 0.8, (92, 94, 102))


def draw_sky(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Blue with white clouds."""
    blend(draw, (92, 170, 246), (178, 220, 255))
    for y in (0.16, 0.52, 0.86):
        x = rng.random()
        for step in (-0.1, 0.0, 0.1):
            disc(draw, x + step, y, 0.09 if step == 0 else 0.06, (255, 255, 255))


SCENES: dict[str, SceneDrawer] = {
    "space": draw_space,
    "night": draw_night,
    "grass": draw_grass,
    "beach": draw_beach,
    "sunset": draw_sunset,
    "snow": draw_snow,
    "underwater": draw_underwater,
    "desert": draw_desert,
    "forest": draw_forest,
    "city": draw_city,
    "sky": draw_sky,
}
SCENE_NAMES = tuple(SCENES)

# Index 0 is "not named"; then the plain colours; then the scenes.
BACKGROUNDS: tuple[str, ...] = ("", *COLOUR_NAMES, *SCENE_NAMES)


@cache
def draw_scene(name: str, layout: int) -> Image.Image:
    """One layout of a scene, 128 x 128."""
    canvas = Image.new("RGB", (SIDE, SIDE))
    # A seed of text: the same picture in every process.
    SCENES[name](ImageDraw.Draw(canvas), random.Random(f"{name} {layout}"))  # noqa: S311
    return canvas.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)


def draw_background(name: str, white: bool, rng: np.random.Generator) -> Image.Image:
    """The background that a caption names, or for the empty name white or a pale tint."""
    if name in SCENES:
        return draw_scene(name, int(rng.integers(LAYOUTS))).copy()
    if name:
        colour: Rgb = COLOURS[name]
    elif white:
        colour = (255, 255, 255)
    else:
        colour = PALE[rng.integers(len(PALE))]
    return Image.new("RGB", (PICTURE_SIZE, PICTURE_SIZE), colour)
