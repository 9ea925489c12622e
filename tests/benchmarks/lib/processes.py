"""What /proc tells of a process and its children; Linux alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def below(pid: int) -> Iterator[int]:
    """Yield a process's id and those of all that it started, theirs included."""
    yield pid
    for task in _tasks(pid):
        with suppress(OSError):  # a thread may have ended meanwhile
            for child in (task / "children").read_text().split():
                yield from below(int(child))


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended
        return []


def megabytes(pid: int, what: str = "VmRSS") -> float:
    """Return a process's resident memory, or with VmHWM its peak; 0 for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(rf"{what}:\s+(\d+)", status)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def processor_milliseconds(pid: int) -> float:
    """Return for how long a process has computed so far; other processes' work is not in it.

    The kernel counts in hundredths of a second.
    """
    # The name, in parentheses, may hold anything; the fields after it are numbers (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000 / os.sysconf("SC_CLK_TCK")
