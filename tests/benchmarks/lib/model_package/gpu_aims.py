"""The aims for one NVIDIA H200; there are none for other GPUs.

Each aim is a row, derived from rows that `gpu.py` measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.benchmarks.lib.model_package.first_image import WITHOUT
from tests.benchmarks.lib.model_package.variants import ANCESTOR, CACHED, PLAIN, UNCHANGED
from tests.benchmarks.lib.report import Aim, Row

GPU = "H200"
FASTEST = "the fastest with unchanged images"


@dataclass(frozen=True)
class Target:
    """An aim of one model.

    Attributes:
        what: the row's name, after the model's.
        unit: of its value.
        baseline: the name of its baseline.
        aim: the bounds to meet.
        choose: returns the measured row that the aim applies to; None if there is none.
    """

    what: str
    unit: str
    baseline: str
    aim: Aim
    choose: Callable[[str, Sequence[Row]], Row | None]


def fastest(name: str, rows: Sequence[Row]) -> Row | None:
    """Return the variant with the shortest time among those that keep the image unchanged."""
    return _least(rows, {f"{name}, {variant}" for variant in UNCHANGED})


def fastest_against_ancestor(name: str, rows: Sequence[Row]) -> Row | None:
    """Return the fastest variant against the ancestor's pipeline.

    The ancestor's figure is from its own turns with plain diffusers.
    """
    best, ancestor = fastest(name, rows), _least(rows, {f"{name}, {ANCESTOR}"})
    if best is None or ancestor is None:
        return None
    return replace(best, baseline=ANCESTOR, baseline_value=ancestor.value)


def cached(name: str, rows: Sequence[Row]) -> Row | None:
    """Return the row of the first image with a cache."""
    return _least(rows, {f"{name}, {CACHED}"})


def most_per_second(name: str, rows: Sequence[Row]) -> Row | None:
    """Return the batch with the most images per second."""
    batches = [row for row in rows if row.value and row.what.startswith(f"{name}, batches of ")]
    return max(batches, key=lambda row: row.value.median if row.value else 0, default=None)


TARGETS = {
    "sd": (
        Target(FASTEST, "s", ANCESTOR, Aim("ratio", at_most=0.25), fastest_against_ancestor),
        Target(FASTEST, "s", PLAIN, Aim("ratio", at_most=0.67), fastest),
        Target("first image with its cache", "s", WITHOUT, Aim("value", at_most=10), cached),
    ),
    "sdxl": (
        Target(FASTEST, "s", PLAIN, Aim("value", at_most=0.8), fastest),
        Target("batches", "images/s", PLAIN, Aim("value", at_least=1.5), most_per_second),
    ),
}


def target_rows(name: str, rows: Sequence[Row], hardware: str) -> list[Row]:
    """Return a model's aims with its figures; an aim without a figure is open.

    Args:
        name: the model's.
        rows: its measured rows; empty without a GPU.
        hardware: the GPU's name; "" without one.
    """
    if hardware and GPU not in hardware:
        return []
    return [_row(name, target, target.choose(name, rows)) for target in TARGETS.get(name, ())]


def _row(name: str, target: Target, measured: Row | None) -> Row:
    what = f"{name}, {target.what}"
    if measured is None:
        note = f"the aim is for one {GPU}"
        return Row(what, target.unit, None, target.baseline, aim=target.aim, note=note)
    variant = measured.what.removeprefix(f"{name}, ")
    return replace(measured, what=what, aim=target.aim, note=variant)


def _least(rows: Sequence[Row], names: set[str]) -> Row | None:
    timed = [row for row in rows if row.value and row.what in names]
    return min(timed, key=lambda row: row.value.median if row.value else 0, default=None)
