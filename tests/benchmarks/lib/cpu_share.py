"""A share of one core for a process, as Lambda assigns by memory size; Linux and root only.

A control group with a quota: in each period of 20 ms its processes together get a number of
milliseconds, and then wait for the next period. Lambda's virtual machines are limited in the same
way.
https://docs.kernel.org/scheduler/sched-bwc.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PERIOD = 20_000  # microseconds
_ROOT = Path("/sys/fs/cgroup")
# "At 1,769 MB, a function has the equivalent of one vCPU."
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MEGABYTES_PER_CORE = 1_769


class NoControlGroup(OSError):
    """This machine does not permit creating a control group."""


@contextmanager
def cpu_share(share: float) -> Iterator[Path]:
    """Create a control group with a share of one core, and yield its list of processes.

    Writing a process id to that file limits the process and the processes it starts later.

    Raises:
        NoControlGroup: if this machine does not permit it.
    """
    quota = max(round(_PERIOD * share), 1_000)  # the kernel's minimum is 1 ms
    second = (_ROOT / "cgroup.controllers").exists()
    group = (_ROOT if second else _ROOT / "cpu") / f"easel-benchmark-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise NoControlGroup(str(error)) from error
    try:
        _limit(group, quota, second=second)
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def _limit(group: Path, quota: int, *, second: bool) -> None:
    """Set the quota of a control group of version 2 or 1."""
    try:
        if second:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
    except OSError as error:
        raise NoControlGroup(str(error)) from error
