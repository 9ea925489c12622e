"""The model's speed on a GPU: plain diffusers, the ancestor's way, and each of Easel's settings.

    python -m tests.benchmarks.sections.gpu [--models sd,sd-turbo,sdxl,sdxl-refiner]
        [--variants ...] [--rounds 5] [--minutes 7] [--out FILE.json]

One command on a machine with a CUDA GPU, torch, diffusers, transformers, accelerate and no
network: the models are as large as the published ones, with random weights (`full_size.py`).
Variants that fail or do not fit into the minutes are left out, and said to be; those that tell
most come first, and FILE.json holds what there is after each. After the minutes nothing new is
begun, and what was begun may take two more.

`--models demo` measures the bundled model, on any machine. Since its weights are real, how close a
picture comes to plain diffusers' means something there: it is the peak signal-to-noise ratio of
the pixels, and from 40 dB on two pictures are not to be told apart.
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

from tests.benchmarks.lib.batches import batch_rows
from tests.benchmarks.lib.first_picture import first_row
from tests.benchmarks.lib.full_size import KINDS, Kind
from tests.benchmarks.lib.gpu_aims import target_rows
from tests.benchmarks.lib.measuring import Samples, busy, in_turns
from tests.benchmarks.lib.report import Figure, Result, Row, Section
from tests.benchmarks.lib.ways import (
    ANCESTOR,
    ANCESTOR_STEPS,
    BATCHES,
    CACHED,
    ONLY_FOR,
    PLAIN,
    VARIANTS,
    Reference,
    build_way,
    clock,
    kind_of,
    psnr,
    read_pixels,
)

_ONLY_CUDA = {"Easel, CUDA graphs"}


@dataclass
class Found:
    """One variant of one model, and plain diffusers in turns with it; seconds, but for the rest."""

    seconds: Samples
    plain: Samples | None
    first: float
    per_step: float
    pixels: Any
    gibibytes: float | None
    report: dict[str, str] = field(default_factory=dict)


def measure(name: str, kind: Kind, variant: str, plain: Reference | None, rounds: int) -> Found:
    """Build one variant and time it: the first picture with all that comes before, then others.

    In each round `plain`, if it is given, takes its turn: a busy moment meets both.
    """
    cuda = torch.cuda.is_available()
    steps = ANCESTOR_STEPS if variant == ANCESTOR else kind.steps
    if plain is not None:
        plain.way.paint(kind.steps)  # before it is timed, and before memory is counted
    held = torch.cuda.memory_allocated() if cuda else 0
    started = clock()
    way = build_way(name, kind, variant)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    file = way.paint(steps)
    first = clock() - started
    peak = (torch.cuda.max_memory_allocated() - held) / 2**30 if cuda else None
    turns = {variant: lambda: _timed(way, steps)}
    if plain is not None:
        turns[PLAIN] = lambda: _timed(plain.way, kind.steps)
    seconds = in_turns(turns, rounds)
    half = statistics.median(_timed(way, max(steps // 2, 1)) for _ in range(max(rounds // 2, 1)))
    per_step = (seconds[variant].median - half) / max(steps - steps // 2, 1)
    beside = None if plain is None else seconds[PLAIN]
    return Found(seconds[variant], beside, first, per_step, read_pixels(file), peak, way.report)


def _timed(way: Any, steps: int) -> float:
    started = clock()
    way.paint(steps)  # ends with a file, so the GPU has ended, too
    return clock() - started


def rows_of(name: str, variants: Sequence[str], rounds: int, until: float) -> Iterator[Row]:
    """Measure a model's variants; each is built anew, and takes turns with plain diffusers."""
    kind = kind_of(name)
    plain = Reference(name, kind)
    for variant in variants:
        if name not in ONLY_FOR.get(variant, {name}):
            continue
        reason = _why_not(variant, until)
        if reason:
            yield Row(f"{name}, {variant}", _unit(variant), None, note=reason)
            continue
        yield from _measured(name, kind, variant, plain, rounds)
        _forget()


def _forget() -> None:
    """Free what a variant held; what was compiled for it would slow the next one down."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()


def _unit(variant: str) -> str:
    return "pictures/s" if variant == BATCHES else "s"


def _why_not(variant: str, until: float) -> str:
    if variant in _ONLY_CUDA and not torch.cuda.is_available():
        return "needs a GPU"
    return "no time was left" if time.monotonic() > until else ""


def _measured(name: str, kind: Kind, variant: str, plain: Reference, rounds: int) -> Iterator[Row]:
    """Measure a variant; one that fails is a row that says so."""
    what = f"{name}, {variant}"
    print(what, file=sys.stderr, flush=True)
    try:
        if variant == BATCHES:
            yield from batch_rows(name, kind, plain.way, max(rounds // 2, 2))
        elif variant == CACHED:
            yield first_row(what, name)
        else:
            with redirect_stdout(StringIO()):  # the painter's log
                found = measure(name, kind, variant, None if variant == PLAIN else plain, rounds)
                row = _row(what, found, plain)
            yield row
    except Exception as error:  # noqa: BLE001 - one variant less, such as for want of memory
        note = f"failed: {type(error).__name__}: {str(error)[:200]}"
        yield Row(what, _unit(variant), None, note=note)


def _row(what: str, found: Found, plain: Reference) -> Row:
    notes = [f"first picture {found.first:.1f} s", f"{found.per_step * 1_000:.1f} ms per step"]
    if found.gibibytes is not None:
        notes.append(f"peak {found.gibibytes:.1f} GiB while painting")
    if found.plain is not None:
        closeness = psnr(found.pixels, plain.pixels)
        notes.append("equal pixels" if math.isinf(closeness) else f"{closeness:.0f} dB")
    notes += [f"{name} {told}" for name, told in found.report.items() if told.startswith("off: ")]
    row = Row(what, "s", Figure.of(found.seconds), note="; ".join(notes))
    if found.plain is None:
        return row
    return replace(row, baseline=PLAIN, baseline_value=Figure.of(found.plain))


TEXT = """
From a request to a PNG file, one picture at a time; prompts are known from the second picture on.
"First picture" is what loading, warming up, compiling and the first picture take together. Each
variant takes turns with plain diffusers. Without a GPU the time is the process's own CPU time, on
one thread. All weights are random but the demo model's: how close its pictures are to plain
diffusers' is the figure to read. For `sdxl-refiner`, plain diffusers is the recipe of diffusers'
guide to SDXL: 40 steps, of which the refiner does the last 20 %, with one VAE and one second text
encoder for both. With "nothing shared" each has its own, as where both are loaded by name alone.
Rows of batches are pictures per second; Easel itself serves none. The aims are for one H200, and
each takes its figure from the row that its note names.
`python -m tests.benchmarks.sections.gpu` measures all of it on a machine with a GPU.
"""


def measure_all(
    models: Sequence[str],
    variants: Sequence[str],
    rounds: int,
    minutes: float,
    keep: Callable[[Section], None] = lambda _: None,
) -> Section:
    """Measure models, and say of those that need a GPU that they were not, where there is none.

    Each model may take an equal share of what is left of the minutes.

    Args:
        models: names of `full_size.KINDS`, and demo.
        variants: names of `ways.VARIANTS`.
        rounds: how often each is timed, at least 2.
        minutes: after these nothing new is begun.
        keep: is given what there is after each row, should the rest never come, and at the end.
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
    # Compiling all of it takes a CPU many minutes, and a GPU is what it is for.
    slow = set() if torch.cuda.is_available() else {"Easel, compiled fully"}
    variants = [PLAIN, "Easel"] if quick else [each for each in VARIANTS if each not in slow]
    return measure_all(["demo", *KINDS], variants, 2 if quick else 5, 1 if quick else 7)


def main() -> None:
    """Read the command line, measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description="Measure the model's speed.")
    parser.add_argument("--models", default=",".join(KINDS), help="beside these: demo")
    parser.add_argument("--variants", help=f"separated by /: {' / '.join(VARIANTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    parser.add_argument("--minutes", type=float, default=7, help="then nothing is begun")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    variants = asked.variants.split("/") if asked.variants else list(VARIANTS)
    strange = ({*variants} - {*VARIANTS}) | ({*asked.models.split(",")} - {"demo", *KINDS})
    if strange:
        parser.error(f"there is no {', '.join(sorted(strange))}")
    torch.set_num_threads(1)
    load = busy()

    def keep(section: Section) -> None:
        if asked.out:
            Result.of(section, load).save(asked.out)

    models, rounds = asked.models.split(","), max(asked.rounds, 2)
    found = measure_all(models, variants, rounds, asked.minutes, keep)
    print(Result.of(found, load).markdown())


if __name__ == "__main__":
    main()
