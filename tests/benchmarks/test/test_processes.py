"""A process's memory, processor time and children."""

import os
import signal
import subprocess
import sys

from tests.benchmarks.lib.processes import (
    megabytes,
    process_tree,
    processor_milliseconds,
    sessions_of,
)

_WORK = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"


def test_a_process_s_time_memory_and_children_are_read():
    with subprocess.Popen(
        [sys.executable, "-c", _WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        worked, size = processor_milliseconds(process.pid), megabytes(process.pid)
        peak, family = megabytes(process.pid, "VmHWM"), list(process_tree(os.getpid()))
        process.communicate(b"\n")

    assert worked >= 290  # counted in hundredths of a second
    assert 1 < size <= peak
    assert {os.getpid(), process.pid} <= set(family)


def test_a_process_that_has_ended_has_no_memory():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert megabytes(ended.pid) == 0
    assert list(process_tree(ended.pid)) == [ended.pid]


def test_a_daemon_in_a_session_of_its_own_is_found():
    start = "import subprocess as s, sys; print(s.Popen(['sleep', '60'], stdout=2).pid, flush=True)"
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {start!r}]); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    daemon = int(parent.stdout.readline())
    try:
        assert {os.getpid(), parent.pid, daemon} <= set(sessions_of(os.getpid()))
    finally:
        os.kill(daemon, signal.SIGKILL)
        parent.communicate("\n")
