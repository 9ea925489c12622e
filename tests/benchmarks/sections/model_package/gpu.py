"""The model's speed on a GPU: plain diffusers, the ancestor's pipeline, and Easel's settings.

    python -m tests.benchmarks.sections.model_package.gpu [--models sd,sd-turbo,sdxl,sdxl-refiner]
        [--variants ...] [--rounds 5] [--minutes 7] [--out FILE.json]

Requires a CUDA GPU, torch, diffusers, transformers and accelerate, but no network: the models have
the size of the published ones and random weights (`full_size.py`). Variants that fail or do not fit
into the minutes are reported as such; the most informative ones come first, and FILE.json is
written after each row. After the minutes no variant is started; a running one can take two more.

`--models demo` measures the bundled model, on any machine. Its weights are real, so its images can
be compared with plain diffusers': the peak signal-to-noise ratio of the pixels, where two images
cannot be told apart from 40 dB on.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.lib.measuring import Samples, in_turns, load_average
from tests.benchmarks.lib.model_package.batches import batch_rows
from tests.benchmarks.lib.model_package.first_image import first_row
from tests.benchmarks.lib.model_package.full_size import MODELS, ModelSpec
from tests.benchmarks.lib.model_package.gpu_aims import target_rows
from tests.benchmarks.lib.model_package.variants import (
    ANCESTOR,
    ANCESTOR_STEPS,
    BATCHES,
    CACHED,
    ONLY_FOR,
    PLAIN,
    VARIANTS,
    Reference,
    build_variant,
    clock,
    psnr,
    read_pixels,
    spec_of,
)
from tests.benchmarks.lib.report import Figure, Result, Row, Section

_ONLY_CUDA = {"Easel, CUDA graphs"}


@dataclass
class Measurement:
    """One variant of one model, and plain diffusers measured in turns with it; times in seconds."""

    seconds: Samples
    plain: Samples | None
    first: float
    per_step: float
    pixels: Any
    gibibytes: float | None
    report: dict[str, str] = field(default_factory=dict)


def measure(
    name: str, spec: ModelSpec, variant: str, plain: Reference | None, rounds: int
) -> Measurement:
    """Build one variant and time it: the first image, loading included, then others.

    `plain`, if given, is measured in every round, too, so that other load on the machine affects
    both.
    """
    cuda = torch.cuda.is_available()
    steps = ANCESTOR_STEPS if variant == ANCESTOR else spec.steps
    if plain is not None:
        plain.model.generate(spec.steps)  # before it is timed, and before memory is counted
    held = torch.cuda.memory_allocated() if cuda else 0
    started = clock()
    model = build_variant(name, spec, variant)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    file = model.generate(steps)
    first = clock() - started
    peak = (torch.cuda.max_memory_allocated() - held) / 2**30 if cuda else None
    turns = {variant: lambda: _timed(model, steps)}
    if plain is not None:
        turns[PLAIN] = lambda: _timed(plain.model, spec.steps)
    seconds = in_turns(turns, rounds)
    half = statistics.median(_timed(model, max(steps // 2, 1)) for _ in range(max(rounds // 2, 1)))
    per_step = (seconds[variant].median - half) / max(steps - steps // 2, 1)
    reference = None if plain is None else seconds[PLAIN]
    return Measurement(
        seconds[variant], reference, first, per_step, read_pixels(file), peak, model.report
    )


def _timed(model: Any, steps: int) -> float:
    started = clock()
    model.generate(steps)  # returns a file, so the GPU has finished, too
    return clock() - started


def rows_of(name: str, variants: Sequence[str], rounds: int, until: float) -> Iterator[Row]:
    """Measure a model's variants, each loaded again and in turns with plain diffusers."""
    spec = spec_of(name)
    plain = Reference(name, spec)
    for variant in variants:
        if name not in ONLY_FOR.get(variant, {name}):
            continue
        reason = _skip_reason(variant, until)
        if reason:
            yield Row(f"{name}, {variant}", _unit(variant), None, note=reason)
            continue
        yield from _measured(name, spec, variant, plain, rounds)
        _forget()


def _forget() -> None:
    """Free a variant's memory, and its compiled code, which would slow the next one down."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()


def _unit(variant: str) -> str:
    return "images/s" if variant == BATCHES else "s"


def _skip_reason(variant: str, until: float) -> str:
    if variant in _ONLY_CUDA and not torch.cuda.is_available():
        return "needs a GPU"
    return "no time left" if time.monotonic() > until else ""


def _measured(
    name: str, spec: ModelSpec, variant: str, plain: Reference, rounds: int
) -> Iterator[Row]:
    """Measure a variant; a failure is a row with the error."""
    what = f"{name}, {variant}"
    print(what, file=sys.stderr, flush=True)
    try:
        if variant == BATCHES:
            yield from batch_rows(name, spec, plain.model, max(rounds // 2, 2))
        elif variant == CACHED:
            yield first_row(what, name)
        else:
            with redirect_stdout(StringIO()):  # the model's log
                measured = measure(name, spec, variant, None if variant == PLAIN else plain, rounds)
                row = _row(what, measured, plain)
            yield row
    except Exception as error:  # noqa: BLE001 - such as out of memory; others go on
        note = f"failed: {type(error).__name__}: {str(error)[:200]}"
        yield Row(what, _unit(variant), None, note=note)


def _row(what: str, measured: Measurement, plain: Reference) -> Row:
    notes = [f"first image {measured.first:.1f} s", f"{measured.per_step * 1_000:.1f} ms per step"]
    if measured.gibibytes is not None:
        notes.append(f"peak {measured.gibibytes:.1f} GiB during generation")
    if measured.plain is not None:
        closeness = psnr(measured.pixels, plain.pixels)
        notes.append("equal pixels" if math.isinf(closeness) else f"{closeness:.0f} dB")
    notes += [
        f"{name} {state}" for name, state in measured.report.items() if state.startswith("off: ")
    ]
    row = Row(what, "s", Figure.of(measured.seconds), note="; ".join(notes))
    if measured.plain is None:
        return row
    return replace(row, baseline=PLAIN, baseline_value=Figure.of(measured.plain))


TEXT = """
From a request to a PNG file, one image at a time; prompt embeddings are cached from the second
image on. "First image" includes loading, warm-up and compiling. Each variant is measured in turns
with plain diffusers. Without a GPU, the time is the process's CPU time on one thread. All weights
are random except the demo model's, so only its images can be compared with plain diffusers' (in
dB). For `sdxl-refiner`, plain diffusers follows diffusers' guide to SDXL: 40 steps, of which the
refiner runs the last 20 %, with a shared VAE and second text encoder; with "nothing shared", each
pipeline loads its own. Rows of batches are images per second of one call for several images; a
section below has batches of requests. The aims are for one H200, and each takes its figure from the
row that its note names.
`python -m tests.benchmarks.sections.model_package.gpu` measures everything on a machine with a GPU.
"""


def measure_all(
    models: Sequence[str],
    variants: Sequence[str],
    rounds: int,
    minutes: float,
    keep: Callable[[Section], None] = lambda _: None,
) -> Section:
    """Measure models; without a GPU, those that need one are rows without a figure.

    Each model gets an equal share of the remaining minutes.

    Args:
        models: names of `full_size.MODELS`, and demo.
        variants: names of `variants.VARIANTS`.
        rounds: how often each is timed, at least 2.
        minutes: after these no variant is started.
        keep: is called with the section so far after each row, and at the end.
    """
    until = time.monotonic() + minutes * 60
    rows: list[Row] = []
    gpu = _gpu()
    waiting = [name for name in models if _can_run(name)]
    for name in models:
        if not _can_run(name):
            rows.append(Row(f"{name}, Easel", "s", None, PLAIN, note="needs a GPU"))
            rows += target_rows(name, [], gpu)
            continue
        before = len(rows)
        share = (until - time.monotonic()) / len(waiting)
        waiting.remove(name)
        for row in rows_of(name, variants, rounds, time.monotonic() + share):
            rows.append(row)
            keep(_section(rows))
        rows += target_rows(name, rows[before:], gpu)
    keep(_section(rows))
    return _section(rows)


def _can_run(name: str) -> bool:
    return name == "demo" or torch.cuda.is_available()


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def _section(rows: Sequence[Row]) -> Section:
    packages = ("torch", "diffusers", "transformers")
    return Section("The model", TEXT, tuple(rows), packages=packages, hardware=_gpu())


def section(quick: bool = False) -> Section:
    """Measure the demo model, and the large ones where there is a GPU."""
    torch.set_num_threads(1)
    # Compiling the whole model takes a CPU many minutes.
    slow = set() if torch.cuda.is_available() else {"Easel, compiled fully"}
    variants = [PLAIN, "Easel"] if quick else [each for each in VARIANTS if each not in slow]
    return measure_all(["demo", *MODELS], variants, 2 if quick else 5, 1 if quick else 7)


def main() -> None:
    """Read the command line, measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description="Measure the model's speed.")
    parser.add_argument("--models", default=",".join(MODELS), help="these, and demo")
    parser.add_argument("--variants", help=f"separated by /: {' / '.join(VARIANTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    parser.add_argument(
        "--minutes", type=float, default=7, help="after these no variant is started"
    )
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    variants = options.variants.split("/") if options.variants else list(VARIANTS)
    unknown = ({*variants} - {*VARIANTS}) | ({*options.models.split(",")} - {"demo", *MODELS})
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    load = load_average()

    def keep(section: Section) -> None:
        if options.out:
            Result.of(section, load).save(options.out)

    models, rounds = options.models.split(","), max(options.rounds, 2)
    measured = measure_all(models, variants, rounds, options.minutes, keep)
    print(Result.of(measured, load).markdown())


if __name__ == "__main__":
    main()
