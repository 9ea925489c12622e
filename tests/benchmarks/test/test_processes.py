"""What is told of processes."""

import os
import subprocess
import sys

from tests.benchmarks.lib.processes import below, megabytes, processor_milliseconds

_WORK = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"


def test_a_process_s_work_memory_and_children_are_found() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        worked, size = processor_milliseconds(process.pid), megabytes(process.pid)
        peak, family = megabytes(process.pid, "VmHWM"), list(below(os.getpid()))
        process.communicate(b"\n")

    assert worked >= 290  # counted in hundredths of a second
    assert 1 < size <= peak
    assert {os.getpid(), process.pid} <= set(family)


def test_a_process_that_has_ended_has_no_memory() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert megabytes(ended.pid) == 0
    assert list(below(ended.pid)) == [ended.pid]
