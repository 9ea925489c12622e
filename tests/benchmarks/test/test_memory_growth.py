"""What is told of memory over time."""

from __future__ import annotations

import os
import time

import pytest

from tests.benchmarks.lib.visitors import Crowd, Visit
from tests.benchmarks.sections.memory_growth import Part, report, watched

PICTURE = Visit(0.1, 200, "")


def grown(*sizes: float) -> Part:
    part = Part()
    for look, size in enumerate(sizes):
        part.add(look, [size])
    return part


def rows(part: Part) -> tuple[bool | None, str]:
    row = report({"a Lambda": part}, Crowd([PICTURE], 1), 30, 1, 1).rows[0]
    return row.met, row.note


def test_steady_memory_meets_the_aim_and_growing_memory_misses_it() -> None:
    assert rows(grown(*[60.0, 61.0, 60.0, 60.5, 60.0] * 4)) == (True, "growth -0.0 MB an hour")
    assert rows(grown(*range(60, 80))) == (False, "growth +1.0 MB an hour")


def test_the_beginning_and_the_end_are_a_tenth_of_the_time_each() -> None:
    part = grown(10, 12, *[50] * 16, 70, 72)

    assert (part.first, part.last) == (11, 71)


def test_processes_that_have_ended_do_not_count() -> None:
    part = Part()
    part.add(0, [50, 0, 70])
    part.add(1, [0])

    assert part.megabytes == [60]


def test_processes_are_looked_at_while_visitors_come_and_what_is_old_is_tidied_before() -> None:
    tidied: list[float] = []

    def visit() -> Crowd:
        while len(tidied) < 3:
            time.sleep(0.001)
        return Crowd([PICTURE], 1)

    parts, crowd = watched(
        {"this one": lambda: [os.getpid()]}, visit, 0.001, lambda: tidied.append(time.monotonic())
    )

    assert crowd.pictures == 1
    assert len(parts["this one"].megabytes) >= 2
    assert min(parts["this one"].megabytes) > 1


def test_without_a_picture_there_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="endpoint_busy"):
        report({}, Crowd([Visit(1, 503, "endpoint_busy")], 1), 30, 1, 1)
