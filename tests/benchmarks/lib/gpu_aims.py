"""What the model should reach on one NVIDIA H200; on anything else nothing is aimed at.

Each aim is a row of its own, made of rows that `gpu.py` measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.benchmarks.lib.first_picture import WITHOUT
from tests.benchmarks.lib.report import Aim, Row
from tests.benchmarks.lib.ways import ANCESTOR, CACHED, PLAIN, UNCHANGED

GPU = "H200"
FASTEST = "the fastest that changes no picture"


@dataclass(frozen=True)
class Target:
    """An aim of one model.

    Attributes:
        what: the row's name, after the model's.
        unit: of its value.
        baseline: what it stands beside.
        aim: what it should reach.
        choose: the row that it is about, of those that were measured; None if there is none.
    """

    what: str
    unit: str
    baseline: str
    aim: Aim
    choose: Callable[[str, Sequence[Row]], Row | None]


def fastest(name: str, rows: Sequence[Row]) -> Row | None:
    """Return the variant with the shortest time, of those that change no picture."""
    return _least(rows, {f"{name}, {variant}" for variant in UNCHANGED})


def fastest_beside_ancestor(name: str, rows: Sequence[Row]) -> Row | None:
    """Return the fastest variant beside the ancestor's way, both measured against plain diffusers.

    The ancestor's figure is from its own turns.
    """
    best, ancestor = fastest(name, rows), _least(rows, {f"{name}, {ANCESTOR}"})
    if best is None or ancestor is None:
        return None
    return replace(best, baseline=ANCESTOR, baseline_value=ancestor.value)


def cached(name: str, rows: Sequence[Row]) -> Row | None:
    """Return the row of the first picture with a cache."""
    return _least(rows, {f"{name}, {CACHED}"})


def most_per_second(name: str, rows: Sequence[Row]) -> Row | None:
    """Return the batch that makes most pictures per second."""
    batches = [row for row in rows if row.value and row.what.startswith(f"{name}, batches of ")]
    return max(batches, key=lambda row: row.value.median if row.value else 0, default=None)


TARGETS = {
    "sd": (
        Target(FASTEST, "s", ANCESTOR, Aim("ratio", at_most=0.25), fastest_beside_ancestor),
        Target(FASTEST, "s", PLAIN, Aim("ratio", at_most=0.67), fastest),
        Target("first picture with its cache", "s", WITHOUT, Aim("value", at_most=10), cached),
    ),
    "sdxl": (
        Target(FASTEST, "s", PLAIN, Aim("value", at_most=0.8), fastest),
        Target("batches", "pictures/s", PLAIN, Aim("value", at_least=1.5), most_per_second),
    ),
}


def target_rows(name: str, rows: Sequence[Row], hardware: str) -> list[Row]:
    """Return what a model should reach beside what it did; open where it was not measured.

    Args:
        name: the model's.
        rows: its rows; none where there was nothing to measure them on.
        hardware: the GPU's name; "" for none.
    """
    if hardware and GPU not in hardware:
        return []
    return [_row(name, target, target.choose(name, rows)) for target in TARGETS.get(name, ())]


def _row(name: str, target: Target, found: Row | None) -> Row:
    what = f"{name}, {target.what}"
    if found is None:
        note = f"the aim is for one {GPU}"
        return Row(what, target.unit, None, target.baseline, aim=target.aim, note=note)
    variant = found.what.removeprefix(f"{name}, ")
    return replace(found, what=what, aim=target.aim, note=variant)


def _least(rows: Sequence[Row], names: set[str]) -> Row | None:
    timed = [row for row in rows if row.value and row.what in names]
    return min(timed, key=lambda row: row.value.median if row.value else 0, default=None)
