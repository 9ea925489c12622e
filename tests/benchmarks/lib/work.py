"""Who computed for how long while something was measured; Linux alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.lib.processes import processor_milliseconds

Parts = Mapping[str, Callable[[], Iterable[int]]]
_IDLE = slice(3, 5)  # idle and iowait, of user nice system idle iowait irq softirq steal (proc(5))
_ALL = 8


@dataclass(frozen=True)
class Work:
    """Processor time in milliseconds.

    Attributes:
        parts: of each part's processes together.
        machine: of all processes of the machine.
        whole: what all cores could have given.
    """

    parts: Mapping[str, float]
    machine: float
    whole: float

    def since(self, before: Work) -> Work:
        """Return what was done after `before`."""
        parts = {name: spent - before.parts[name] for name, spent in self.parts.items()}
        return Work(parts, self.machine - before.machine, self.whole - before.whole)

    @property
    def others(self) -> float:
        """The share of the machine that went to processes of no part, from 0 to 1."""
        return max(self.machine - sum(self.parts.values()), 0) / self.whole if self.whole else 0.0


def work(parts: Parts) -> Work:
    """Return all work until now."""
    spent = {name: sum(map(_milliseconds, processes())) for name, processes in parts.items()}
    ticks = [int(each) for each in Path("/proc/stat").read_text().split()[1 : _ALL + 1]]
    scale = 1_000 / os.sysconf("SC_CLK_TCK")
    return Work(spent, (sum(ticks) - sum(ticks[_IDLE])) * scale, sum(ticks) * scale)


def _milliseconds(pid: int) -> float:
    with suppress(OSError):  # it may have ended meanwhile
        return processor_milliseconds(pid)
    return 0.0
