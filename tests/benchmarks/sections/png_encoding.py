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

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from easel.output.png import encode_png
from tests.benchmarks.lib.measuring import in_turns, milliseconds
from tests.benchmarks.lib.noise_pictures import KINDS, Kind, paint
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, run_alone

SIZES = (512, 1024)
REPEAT = 7
LARGE, CPU_AIM = 1024, 25  # the size whose encoding has an aim, and that aim in milliseconds
TEXT = """\
The endpoint's own encoder against Pillow's without any options. The pictures are made by the
benchmark and are always the same; they imitate what compresses like a diffusion model's output,
from a smooth illustration to a noisy photograph.
"""


def encode_with_pillow(pixels: NDArray[np.uint8]) -> bytes:
    """Return the PNG that Pillow makes without any options."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def section(quick: bool = False, repeat: int = REPEAT) -> Section:
    """Measure all of it."""
    sizes, repeat = ((64,), 2) if quick else (SIZES, repeat)
    rows = [row for size in sizes for kind in KINDS for row in compare_encoders(kind, size, repeat)]
    return Section("PNG files", TEXT, tuple(rows), packages=("numpy", "Pillow"))


def compare_encoders(kind: Kind, size: int, repeat: int) -> tuple[Row, ...]:
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
