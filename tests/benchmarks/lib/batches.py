"""What batches would gain: pictures per second, of Easel's settings and of plain diffusers.

Easel itself serves none: the serving toolkit hands over one request at a time, and a request is for
one picture. `gpu.py` measures these rows with its others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch

from tests.benchmarks.lib.full_size import Kind
from tests.benchmarks.lib.measuring import Samples, in_turns
from tests.benchmarks.lib.report import Figure, Row
from tests.benchmarks.lib.ways import COMPILED, PLAIN, build_way, clock, psnr, read_pixels

SIZES = (1, 4, 8)


def batch_rows(name: str, kind: Kind, plain: Any, rounds: int) -> Iterator[Row]:
    """Measure batches of each size; one that does not fit is a row that says so.

    Args:
        name: the model's.
        kind: the same model's.
        plain: plain diffusers with it, as `ways.Plainly`.
        rounds: how often each is timed, at least 2.
    """
    # On a CPU compiling takes longer than all else here.
    variant = COMPILED if torch.cuda.is_available() else "Easel"
    with redirect_stdout(StringIO()):  # the painter's log
        easel = build_way(name, kind, variant)
        alone = read_pixels(easel.paint(kind.steps))
    for count in SIZES:
        what = f"{name}, batches of {count}, {variant}"
        try:
            files = easel.paint_batch(kind.steps, count)
            plain.paint_batch(kind.steps, count)  # before it is timed
            turns = {
                "": lambda count=count: _per_second(easel, kind.steps, count),
                PLAIN: lambda count=count: _per_second(plain, kind.steps, count),
            }
            found = in_turns(turns, rounds)
        except (torch.OutOfMemoryError, MemoryError):
            yield Row(what, "pictures/s", None, PLAIN, note="does not fit")
            return
        yield _row(what, found, psnr(read_pixels(files[0]), alone))


def _per_second(way: Any, steps: int, count: int) -> float:
    started = clock()
    way.paint_batch(steps, count)
    return count / (clock() - started)


def _row(what: str, found: dict[str, Samples], closeness: float) -> Row:
    told = "equal to the same picture" if math.isinf(closeness) else f"{closeness:.0f} dB from it"
    return Row(
        what,
        "pictures/s",
        Figure.of(found[""]),
        PLAIN,
        Figure.of(found[PLAIN]),
        note=f"the first picture is {told} by itself",
    )
