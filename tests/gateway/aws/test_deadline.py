"""The deadline."""

import threading
import time

import pytest

from chalicelib.aws.deadline import Deadline, DeadlinePassed


def test_work_that_is_done_in_time_returns_its_result():
    assert Deadline(float("inf")).keep(lambda: 7) == 7


def test_what_the_work_raises_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        Deadline(float("inf")).keep(lambda: 1 / 0)


def test_work_that_never_ends_is_left_when_the_moment_comes():
    never = threading.Event()
    with pytest.raises(DeadlinePassed):
        Deadline(0.05, clock=lambda: 0.0).keep(never.wait)
    never.set()


def test_work_that_begins_too_late_is_not_waited_for():
    never = threading.Event()
    with pytest.raises(DeadlinePassed):
        Deadline(0.0, clock=lambda: 5.0).keep(never.wait)
    never.set()


def test_the_time_that_remains_runs_out():
    now = iter([10.0, 23.0, 25.0])
    deadline = Deadline(24.0, clock=lambda: next(now))

    assert [deadline.remaining for _ in range(3)] == [14.0, 1.0, -1.0]


def test_work_without_a_deadline_is_waited_for():
    """An infinite time-out overflows in `threading` if the result is not ready at once."""
    assert Deadline(float("inf")).keep(lambda: time.sleep(0.05) or "done") == "done"
