"""Batches, in images per second: Easel's settings against plain diffusers.

One call makes several images; Easel's server batches requests instead (`batching.py`).
`gpu.py` measures these rows with its others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch

from tests.benchmarks.lib.measuring import Samples, in_turns
from tests.benchmarks.lib.model_package.full_size import ModelSpec
from tests.benchmarks.lib.model_package.variants import (
    COMPILED,
    PLAIN,
    build_variant,
    clock,
    psnr,
    read_pixels,
)
from tests.benchmarks.lib.report import Figure, Row

SIZES = (1, 4, 8)


def batch_rows(name: str, spec: ModelSpec, plain: Any, rounds: int) -> Iterator[Row]:
    """Measure batches of each size, up to the first that does not fit into memory.

    Args:
        name: the model's.
        spec: the same model's.
        plain: plain diffusers with it, as `variants.PlainDiffusers`.
        rounds: how often each is timed, at least 2.
    """
    # On a CPU, compiling takes longer than everything else here.
    variant = COMPILED if torch.cuda.is_available() else "Easel"
    with redirect_stdout(StringIO()):  # the model's log
        easel = build_variant(name, spec, variant)
        alone = read_pixels(easel.generate(spec.steps))
    for count in SIZES:
        what = f"{name}, batches of {count}, {variant}"
        try:
            files = easel.generate_batch(spec.steps, count)
            plain.generate_batch(spec.steps, count)  # before it is timed
            turns = {
                "": lambda count=count: _per_second(easel, spec.steps, count),
                PLAIN: lambda count=count: _per_second(plain, spec.steps, count),
            }
            rates = in_turns(turns, rounds)
        except (torch.OutOfMemoryError, MemoryError):
            yield Row(what, "images/s", None, PLAIN, note="does not fit")
            return
        yield _row(what, rates, psnr(read_pixels(files[0]), alone))


def _per_second(model: Any, steps: int, count: int) -> float:
    started = clock()
    model.generate_batch(steps, count)
    return count / (clock() - started)


def _row(what: str, rates: dict[str, Samples], closeness: float) -> Row:
    compared = "equal to the same image" if math.isinf(closeness) else f"{closeness:.0f} dB from it"
    return Row(
        what,
        "images/s",
        Figure.of(rates[""]),
        PLAIN,
        Figure.of(rates[PLAIN]),
        note=f"the first image is {compared} generated alone",
    )
