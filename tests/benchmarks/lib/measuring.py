"""Samples, interleaved measurements, tables, and a description of the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Samples:
    """At least two measurements of one variant, in one unit."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile; a single slow run does not change them."""
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def spread(self) -> str:
        """The quartiles as text."""
        low, high = self.quartiles
        return f"{low:.1f} to {high:.1f}"

    def percentile(self, percent: int) -> float:
        """Return the value that `percent` of 100 measurements do not exceed, from 1 to 99."""
        return statistics.quantiles(self.values, n=100, method="inclusive")[percent - 1]


def in_turns(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Samples]:
    """Measure all variants in each round, so that other load on the machine affects all of them."""
    values: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            values[name].append(measure())
    return {name: Samples(tuple(each)) for name, each in values.items()}


def milliseconds(
    action: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the milliseconds that an action takes by a clock in seconds."""
    started = clock()
    action()
    return (clock() - started) * 1_000


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), ["---"] * len(list(head)), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Return the processor, the number of cores and the operating system."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}"


def load_average() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 1)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()
