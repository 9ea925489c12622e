"""How fast the endpoint's own PNG encoder is, and how large its files are, against Pillow's.

    python -m tests.benchmarks.sections.png_encoding [--repeat 7]

The pictures are made here, always the same: no photograph needs to be shipped. They imitate what
compresses like a diffusion model's output: brightness and colour that vary on every scale with
amplitudes that fall with the scale (octaves of smooth noise), hard edges of flat discs, and fine
grain. Three kinds differ in how much detail and grain they have, from a smooth illustration to a
noisy photograph.
"""

from __future__ import annotations

import argparse
import io
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from easel.output.png import encode_png
from tests.benchmarks.lib.measuring import in_turns, milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, run_alone

SIZES = (512, 1024)
REPEAT = 7
LARGE, CPU_AIM = 1024, 25  # the size whose encoding has an aim, and that aim in milliseconds
TEXT = """\
The endpoint's own encoder against Pillow's without any options. The pictures are made by the
benchmark and are always the same; they imitate what compresses like a diffusion model's output,
from a smooth illustration to a noisy photograph.
"""


@dataclass(frozen=True)
class Kind:
    """A kind of picture: `falloff` is each octave's amplitude relative to the one before."""

    name: str
    falloff: float
    grain: float  # standard deviation, of 255


KINDS = (
    Kind("smooth illustration", falloff=0.45, grain=0.5),
    Kind("photograph", falloff=0.55, grain=1.5),
    Kind("noisy photograph", falloff=0.6, grain=4.0),
)


def paint(kind: Kind, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture of `size` by `size` pixels; the same arguments give the same pixels."""
    random = np.random.default_rng(seed)
    canvas = np.full((size, size, 3), 128.0)
    cells, amplitude = 3, 60.0
    while cells <= size // 2:
        noise = _smooth_noise(random, cells, size)
        # Mostly brightness, since natural colours vary less than light does.
        brightness = noise.mean(axis=2, keepdims=True)
        canvas += amplitude * (1.3 * brightness + 0.25 * noise)
        cells, amplitude = cells * 2, amplitude * kind.falloff
    _draw_discs(random, canvas)
    canvas += random.normal(0, kind.grain, canvas.shape)
    return np.clip(canvas, 0, 255).round().astype(np.uint8)


def _smooth_noise(random: np.random.Generator, cells: int, size: int) -> NDArray[np.float64]:
    grid = random.standard_normal((cells, cells, 3)).astype(np.float32)
    planes = [
        Image.fromarray(grid[:, :, channel]).resize((size, size), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    return np.stack([np.asarray(plane, np.float64) for plane in planes], axis=2)


def _draw_discs(random: np.random.Generator, canvas: NDArray[np.float64]) -> None:
    size = len(canvas)
    y, x = np.mgrid[0:size, 0:size] / size
    for _ in range(12):
        left, top, radius = random.random(3)
        inside = (x - left) ** 2 + (y - top) ** 2 < (radius / 5) ** 2
        canvas[inside] += random.normal(0, 40, 3)


def encode_with_pillow(pixels: NDArray[np.uint8]) -> bytes:
    """Return the PNG that Pillow makes without any options."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def section(quick: bool = False, repeat: int = REPEAT) -> Section:
    """Measure all of it."""
    sizes, repeat = ((64,), 2) if quick else (SIZES, repeat)
    rows = [row for size in sizes for kind in KINDS for row in compare(kind, size, repeat)]
    return Section("PNG files", TEXT, tuple(rows), packages=("numpy", "Pillow"))


def compare(kind: Kind, size: int, repeat: int) -> tuple[Row, ...]:
    """Return time, CPU time and size, after checking that both files hold the same pixels."""
    pixels = paint(kind, size)
    theirs, ours = encode_with_pillow(pixels), encode_png(pixels)
    if not np.array_equal(np.asarray(Image.open(io.BytesIO(ours))), pixels):
        raise AssertionError("the encoder changed the picture")
    times = in_turns(
        {
            "Pillow": lambda: milliseconds(lambda: encode_with_pillow(pixels)),
            "own": lambda: milliseconds(lambda: encode_png(pixels)),
            "own CPU": lambda: milliseconds(lambda: encode_png(pixels), time.process_time),
            "Pillow CPU": lambda: milliseconds(
                lambda: encode_with_pillow(pixels), time.process_time
            ),
        },
        repeat,
    )
    what = f"{kind.name}, {size} px"
    own, pillow = Figure.of(times["own"]), Figure.of(times["Pillow"])
    sizes = Figure(round(len(ours) / 1e3)), Figure(round(len(theirs) / 1e3))
    return (
        Row(f"{what}: time", "ms", own, "Pillow", pillow, Aim("ratio", at_most=0.25)),
        Row(
            f"{what}: CPU time of all threads",
            "ms",
            Figure.of(times["own CPU"]),
            "Pillow",
            Figure.of(times["Pillow CPU"]),
            Aim("value", at_most=CPU_AIM) if size == LARGE else None,
        ),
        Row(f"{what}: size", "kB", sizes[0], "Pillow", sizes[1], Aim("ratio", at_most=1.1)),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare PNG encoders.")
    parser.add_argument("--repeat", type=int, default=REPEAT, help="runs per figure (at least 2)")
    repeat = max(parser.parse_args().repeat, 2)
    run_alone(lambda: section(repeat=repeat))


if __name__ == "__main__":
    main()
