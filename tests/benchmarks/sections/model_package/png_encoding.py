"""Time and file size of the endpoint's PNG encoder, against Pillow's.

python -m tests.benchmarks.sections.model_package.png_encoding [--repeat 7]
"""

from __future__ import annotations

import argparse
import io
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from easel.output.png import encode_png
from tests.benchmarks.lib.measuring import in_turns, milliseconds
from tests.benchmarks.lib.model_package.sample_images import IMAGE_KINDS, ImageKind, draw
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section

SIZES = (512, 1024)
REPEAT = 7
LARGE, CPU_AIM = 1024, 25  # the side in pixels that has an aim, and the aim in milliseconds
TEXT = """\
The endpoint's encoder against Pillow's without options. The benchmark generates the images, always
the same ones, which compress like a diffusion model's output, from a smooth illustration to a noisy
photograph.
"""


def encode_with_pillow(pixels: NDArray[np.uint8]) -> bytes:
    """Encode with Pillow, without options."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def section(quick: bool = False, repeat: int = REPEAT) -> Section:
    """Measure all of it."""
    sizes, repeat = ((64,), 2) if quick else (SIZES, repeat)
    rows = [
        row
        for size in sizes
        for kind in IMAGE_KINDS
        for row in compare_encoders(kind, size, repeat)
    ]
    return Section("PNG files", TEXT, tuple(rows), packages=("numpy", "Pillow"))


def compare_encoders(kind: ImageKind, size: int, repeat: int) -> tuple[Row, ...]:
    """Return rows of time, CPU time and size.

    Raises:
        AssertionError: if the pixels changed.
    """
    pixels = draw(kind, size)
    theirs, ours = encode_with_pillow(pixels), encode_png(pixels)
    if not np.array_equal(np.asarray(Image.open(io.BytesIO(ours))), pixels):
        raise AssertionError("the encoder changed the image")
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
    print_section(lambda: section(repeat=repeat))


if __name__ == "__main__":
    main()
