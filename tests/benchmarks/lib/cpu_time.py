"""Processor time per group of processes and of the whole machine; Linux only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.lib.processes import processor_milliseconds

# Each group's process ids at the moment of the call.
Groups = Mapping[str, Callable[[], Iterable[int]]]
_IDLE = slice(3, 5)  # idle and iowait, of user nice system idle iowait irq softirq steal (proc(5))
_ALL = 8


@dataclass(frozen=True)
class CpuTime:
    """Processor time in milliseconds.

    Attributes:
        groups: used by each group's processes together.
        machine: used by all processes of the machine.
        capacity: of all cores, idle time included.
    """

    groups: Mapping[str, float]
    machine: float
    capacity: float

    def since(self, before: CpuTime) -> CpuTime:
        """Return the difference to an earlier measurement."""
        groups = {name: used - before.groups[name] for name, used in self.groups.items()}
        return CpuTime(groups, self.machine - before.machine, self.capacity - before.capacity)

    @property
    def other_programs(self) -> float:
        """The share of the capacity that processes outside the groups used, from 0 to 1."""
        if not self.capacity:
            return 0.0
        return max(self.machine - sum(self.groups.values()), 0) / self.capacity


def cpu_time(groups: Groups) -> CpuTime:
    """Return the processor time used so far."""
    used = {name: sum(map(_milliseconds, processes())) for name, processes in groups.items()}
    ticks = [int(each) for each in Path("/proc/stat").read_text().split()[1 : _ALL + 1]]
    scale = 1_000 / os.sysconf("SC_CLK_TCK")
    return CpuTime(used, (sum(ticks) - sum(ticks[_IDLE])) * scale, sum(ticks) * scale)


def _milliseconds(pid: int) -> float:
    with suppress(OSError):  # the process can have ended since it was listed
        return processor_milliseconds(pid)
    return 0.0
