"""Who computed for how long."""

import os
import time

import pytest

from tests.benchmarks.lib.work import Work, work


def test_work_is_counted_for_each_part_and_for_the_machine() -> None:
    parts = {"this one": lambda: [os.getpid()], "nobody": list}
    before = work(parts)
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    done = work(parts).since(before)

    assert done.parts["nobody"] == 0
    assert done.parts["this one"] >= 250  # counted in hundredths of a second
    assert done.parts["this one"] <= done.machine + 50 <= done.whole + 100


def test_what_no_part_has_done_is_others_work() -> None:
    assert Work({"a": 20.0, "b": 30.0}, machine=150, whole=200).others == pytest.approx(0.5)
    assert Work({"a": 20.0}, machine=10, whole=200).others == 0


def test_a_process_that_has_ended_is_no_trouble() -> None:
    assert work({"gone": lambda: [2**22 + 1]}).parts == {"gone": 0.0}
