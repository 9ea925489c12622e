"""Compose training images: choose the contents and draw them.

A `Spec` describes the contents of an image. Each use draws another caption for it (`captions.py`),
so that an image is trained with many wordings.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from model_package.demo.data.colours import COLOUR_NAMES, recolour
from model_package.demo.data.scenes import BACKGROUNDS, draw_background
from model_package.demo.data.things import Artwork, Thing, all_things
from model_package.demo.work_dir import PICTURE_SIZE

# Settings: how often each kind is drawn.
KINDS = ("single", "pair", "riding")
# Two things in an image are much harder to learn: each appears at half its size, on either side,
# next to any other. With a share of 0.12 the model drew both things of a pair in 2.5 % of 80.
KIND_SHARES = (0.45, 0.40, 0.15)
RECOLOURED = {"single": 0.45, "pair": 0.25, "riding": 0.15}
PLAIN_BACKGROUND = 0.23
SCENE = 0.25
WHITE_WHEN_UNNAMED = 0.7
SIZES = {"single": 0.82, "pair": 0.47, "rider": 0.46, "mount": 0.62}


@dataclass(frozen=True)
class Looseness:
    """The random variation of a thing's position, in pixels, and of its size, as a share."""

    pixels: int
    spread: float


# Latents are 8 pixels wide, and more variation would blur the result. Two things in an image are
# half as large, so they vary less.
LOOSENESS = {
    "single": Looseness(PICTURE_SIZE * 3 // 128, 0.03),
    "pair": Looseness(PICTURE_SIZE * 1 // 128, 0.015),
    "riding": Looseness(PICTURE_SIZE * 1 // 128, 0.015),
}

NO_COLOUR = -1
NO_THING = -1


@dataclass(frozen=True)
class Spec:
    """The contents of an image, as indices of the vocabulary, colours and backgrounds."""

    kind: int
    thing: int
    colour: int = NO_COLOUR
    other: int = NO_THING
    other_colour: int = NO_COLOUR
    background: int = 0

    def row(self) -> tuple[int, ...]:
        """Return the fields as a row of a pool's table."""
        return (
            self.kind,
            self.thing,
            self.colour,
            self.other,
            self.other_colour,
            self.background,
        )


def is_held_out(thing: int, colour: int) -> bool:
    """Whether training excludes this thing in this colour, for use by a benchmark."""
    return (thing + 7 * colour) % len(COLOUR_NAMES) == 0


@dataclass
class SpecMaker:
    """Creates random specs in which all things are equally frequent."""

    rng: np.random.Generator
    things: tuple[Thing, ...] = field(default_factory=all_things)
    shares: tuple[float, float, float] = KIND_SHARES

    def make(self) -> Spec:
        kind = int(self.rng.choice(len(KINDS), p=self.shares))
        first, second = self.pick_things(KINDS[kind])
        return Spec(
            kind,
            first,
            self.pick_colour(first, KINDS[kind]),
            second,
            NO_COLOUR if second == NO_THING else self.pick_colour(second, KINDS[kind]),
            self.pick_background(),
        )

    def pick_things(self, kind: str) -> tuple[int, int]:
        if kind == "riding":
            return self.one_that("rides"), self.one_that("carries")
        first = int(self.rng.integers(len(self.things)))
        if kind == "single":
            return first, NO_THING
        step = int(self.rng.integers(1, len(self.things)))
        return first, (first + step) % len(self.things)

    def one_that(self, can: str) -> int:
        able = [index for index, thing in enumerate(self.things) if getattr(thing, can)]
        return int(self.rng.choice(able))

    def pick_colour(self, thing: int, kind: str) -> int:
        if self.things[thing].fixed_colour or self.rng.random() >= RECOLOURED[kind]:
            return NO_COLOUR
        colour = int(self.rng.integers(len(COLOUR_NAMES)))
        return NO_COLOUR if is_held_out(thing, colour) else colour

    def pick_background(self) -> int:
        roll = self.rng.random()
        if roll < PLAIN_BACKGROUND:
            return int(self.rng.integers(1, 1 + len(COLOUR_NAMES)))
        if roll < PLAIN_BACKGROUND + SCENE:
            return int(self.rng.integers(1 + len(COLOUR_NAMES), len(BACKGROUNDS)))
        return 0


class Composer:
    """Draws specs with the artwork; caches recoloured things, which are slow to create."""

    def __init__(self, artwork: Artwork) -> None:
        self.artwork = artwork
        self._recoloured: dict[tuple[int, int], Image.Image] = {}

    def draw(self, spec: Spec, rng: np.random.Generator) -> Image.Image:
        """Draw the image of a spec; `rng` moves things by a few pixels and chooses layouts."""
        name = BACKGROUNDS[spec.background]
        # A white thing would be invisible on white.
        is_white = COLOUR_NAMES.index("white") in (spec.colour, spec.other_colour)
        white = not is_white and bool(rng.random() < WHITE_WHEN_UNNAMED)
        canvas = draw_background(name, white, rng)
        loose = LOOSENESS[KINDS[spec.kind]]
        for thing, colour, size, centre in self.places(spec):
            self.place(canvas, self.icon(thing, colour), size, centre, loose, rng)
        return canvas

    @staticmethod
    def places(spec: Spec) -> list[tuple[int, int, float, tuple[float, float]]]:
        """Return each thing, its colour, size and centre, back to front; in shares of the side."""
        first, second = (spec.thing, spec.colour), (spec.other, spec.other_colour)
        if KINDS[spec.kind] == "single":
            return [(*first, SIZES["single"], (0.5, 0.5))]
        if KINDS[spec.kind] == "pair":
            size = SIZES["pair"]
            return [(*first, size, (0.26, 0.5)), (*second, size, (0.74, 0.5))]
        return [(*second, SIZES["mount"], (0.5, 0.67)), (*first, SIZES["rider"], (0.5, 0.25))]

    def icon(self, thing: int, colour: int) -> Image.Image:
        """Return the thing's artwork in its own colours or in a named one."""
        if colour == NO_COLOUR:
            return self.artwork[thing]
        if (thing, colour) not in self._recoloured:
            self._recoloured[thing, colour] = recolour(self.artwork[thing], COLOUR_NAMES[colour])
        return self._recoloured[thing, colour]

    @staticmethod
    def place(
        canvas: Image.Image,
        picture: Image.Image,
        size: float,
        centre: tuple[float, float],
        loose: Looseness,
        rng: np.random.Generator,
    ) -> None:
        """Paste a thing with a small random change of position and size."""
        side = round(PICTURE_SIZE * (size + rng.uniform(-loose.spread, loose.spread)))
        small = picture.resize((side, side), Image.Resampling.BILINEAR)
        dx, dy = rng.integers(-loose.pixels, loose.pixels + 1, 2)
        left = round(PICTURE_SIZE * centre[0] - side / 2) + int(dx)
        top = round(PICTURE_SIZE * centre[1] - side / 2) + int(dy)
        canvas.paste(small, (left, top), small)
