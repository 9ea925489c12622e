"""A share of a core, where this machine permits it."""

import os
import subprocess
import sys

import pytest

from tests.benchmarks.lib.cpu_share import NoControlGroup, cpu_share


def test_a_process_in_the_group_is_limited_and_the_group_is_removed_afterwards():
    waits = [sys.executable, "-c", "input()"]
    try:
        with (
            cpu_share(0.25) as processes,
            subprocess.Popen(waits, stdin=subprocess.PIPE) as process,
        ):
            processes.write_text(str(process.pid))
            assert processes.read_text().split() == [str(process.pid)]
            assert _quota(processes.parent) == 5_000
            process.communicate(b"\n")
    except NoControlGroup:
        pytest.skip("control groups are unavailable")

    assert not processes.parent.exists()
    assert str(os.getpid()) in processes.parent.name


def _quota(group):
    for name in ("cpu.max", "cpu.cfs_quota_us"):
        file = group / name
        if file.exists():
            return int(file.read_text().split()[0])
    raise AssertionError("no quota")
