"""What is reported of memory over time."""

from __future__ import annotations

import os
import time

import pytest

from tests.benchmarks.lib.gateway.clients import ClientResults, Response
from tests.benchmarks.sections.gateway.memory_growth import ProcessMemory, poll_memory, report

IMAGE = Response(0.1, 200, "")


def grown(*sizes):
    memory = ProcessMemory()
    for poll, size in enumerate(sizes):
        memory.add(poll, [size])
    return memory


def rows(memory):
    row = report({"a Lambda": memory}, ClientResults([IMAGE], 1), 30, 1, 1).rows[0]
    return row.met, row.note


def test_steady_memory_meets_the_aim_and_growing_memory_misses_it():
    assert rows(grown(*[60.0, 61.0, 60.0, 60.5, 60.0] * 4)) == (True, "growth -0.0 MB per hour")
    assert rows(grown(*range(60, 80))) == (False, "growth +1.0 MB per hour")


def test_the_beginning_and_the_end_are_a_tenth_of_the_time_each():
    memory = grown(10, 12, *[50] * 16, 70, 72)

    assert (memory.first, memory.last) == (11, 71)


def test_processes_that_have_ended_do_not_count():
    memory = ProcessMemory()
    memory.add(0, [50, 0, 70])
    memory.add(1, [0])

    assert memory.megabytes == [60]


def test_memory_is_polled_while_clients_run_after_a_clean_up():
    clean_ups = []

    def run():
        while len(clean_ups) < 3:
            time.sleep(0.001)
        return ClientResults([IMAGE], 1)

    memory, results = poll_memory(
        {"this one": lambda: [os.getpid()]},
        run,
        0.001,
        lambda: clean_ups.append(time.monotonic()),
    )

    assert results.images == 1
    assert len(memory["this one"].megabytes) >= 2
    assert min(memory["this one"].megabytes) > 1


def test_a_run_without_images_is_an_error():
    with pytest.raises(RuntimeError, match="endpoint_busy"):
        report({}, ClientResults([Response(1, 503, "endpoint_busy")], 1), 30, 1, 1)
