"""A process and its children, from /proc; Linux only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def process_tree(pid: int) -> Iterator[int]:
    """Yield the ids of a process and of its descendants."""
    yield pid
    for task in _tasks(pid):
        with suppress(OSError):  # a thread can have ended meanwhile
            for child in (task / "children").read_text().split():
                yield from process_tree(int(child))


def sessions_of(pid: int) -> Iterator[int]:
    """Yield the ids of a process, of its descendants, and of what these left in their sessions.

    A daemon is no descendant of what started it. Those in the process's own session are left out,
    which can be that of the terminal.
    """
    tree = set(process_tree(pid))
    sessions = {_session(each) for each in tree} - {_session(pid), None}
    yield from tree
    for number in (int(entry.name) for entry in Path("/proc").glob("[0-9]*")):
        if number not in tree and _session(number) in sessions:
            yield number


def _session(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    except OSError:  # it has ended
        return None


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
    match = re.search(rf"{what}:\s+(\d+)", status)
    return int(match[1]) * 1024 / 1e6 if match else 0.0


def processor_milliseconds(pid: int) -> float:
    """Return the processor time that a process has used so far, in steps of 10 ms.

    Raises:
        OSError: if the process has ended.
    """
    # The name, in parentheses, can contain any character; the fields after it are numbers
    # (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000 / os.sysconf("SC_CLK_TCK")
