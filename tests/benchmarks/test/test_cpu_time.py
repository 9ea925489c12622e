"""Processor time of groups of processes."""

import os
import time

import pytest

from tests.benchmarks.lib.cpu_time import CpuTime, cpu_time


def test_processor_time_is_counted_per_group_and_for_the_machine():
    groups = {"this one": lambda: [os.getpid()], "no processes": list}
    before = cpu_time(groups)
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    used = cpu_time(groups).since(before)

    assert used.groups["no processes"] == 0
    assert used.groups["this one"] >= 250  # counted in hundredths of a second
    assert used.groups["this one"] <= used.machine + 50 <= used.capacity + 100


def test_time_of_processes_outside_the_groups_is_other_programs():
    assert CpuTime(
        {"a": 20.0, "b": 30.0}, machine=150, capacity=200
    ).other_programs == pytest.approx(0.5)
    assert CpuTime({"a": 20.0}, machine=10, capacity=200).other_programs == 0


def test_a_process_that_has_ended_counts_as_zero():
    assert cpu_time({"ended": lambda: [2**22 + 1]}).groups == {"ended": 0.0}
