"""A share of one core for a process, as Lambda gives it by memory size; Linux and root alone.

A control group with a quota: in each period of 20 ms its processes together may compute for so many
milliseconds, and then wait for the next period. That is how Lambda's own virtual machines are
limited, too.
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
    """This machine does not let us make a control group."""


@contextmanager
def cpu_share(share: float) -> Iterator[Path]:
    """Make a control group with that share of one core, and yield its list of processes.

    Writing a process's id into that file limits the process, and all that it starts later.

    Raises:
        NoControlGroup: when this machine does not allow it.
    """
    quota = max(round(_PERIOD * share), 1_000)  # the kernel takes 1 ms at least
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
    """Set the quota in the way of control groups of the second or the first version."""
    try:
        if second:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
    except OSError as error:
        raise NoControlGroup(str(error)) from error
