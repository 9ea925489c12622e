"""Visitors in a crowd, and what is told of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from endpoint.emulator.http_server import QuietHandler, serving
from tests.benchmarks import load
from tests.benchmarks.visitors import Crowd, Visit, visit_for

PICTURE = b"\x89PNG and so on"


class Sometimes(QuietHandler):
    """Paints, refuses as the gateway does, refuses as API Gateway does, and lies; in turns."""

    answers = itertools.cycle(
        [
            (200, PICTURE, []),
            (
                503,
                json.dumps({"error": {"code": "too_many_waiting"}}).encode(),
                [("Retry-After", "0")],
            ),
            (
                500,
                json.dumps({"message": "Internal server error"}).encode(),
                [("Retry-After", "0")],
            ),
            (200, b"<html>", []),
        ]
    )

    def do_GET(self) -> None:
        status, body, headers = next(self.answers)
        self.answer(status, headers, body)


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    with serving(Sometimes) as server:
        yield visit_for(0.5, 1, lambda: server.url)


def test_every_visit_is_a_picture_or_a_refusal_by_its_name(crowd: Crowd) -> None:
    assert crowd.pictures >= 1
    assert set(crowd.refused) == {
        "503 too_many_waiting",
        "500 Internal server error",
        "0 no picture",
    }
    assert crowd.pictures + crowd.refused.total() == len(crowd.visits)


def test_only_pictures_count_for_times_and_throughput(crowd: Crowd) -> None:
    assert len(crowd.latencies.values) == crowd.pictures
    assert crowd.per_second == crowd.pictures / crowd.seconds


def test_nobody_at_home_is_an_answer_too() -> None:
    with serving(Sometimes) as server:
        url = server.url
    found = visit_for(0.01, 1, lambda: url)

    assert found.refused["0 ClientConnectorError"] == len(found.visits)


def test_a_crowd_s_line_tells_percentiles_and_refusals() -> None:
    visits = [Visit(seconds / 100, 200, "") for seconds in range(101)]
    found = Crowd([*visits, Visit(1, 503, "endpoint_busy")], 10)

    details = load._details({("real-time", 5): found})

    assert "| real-time | 5 | 101 | 0.50 | 0.95 | 0.99 | 1 x 503 endpoint_busy |" in details


def test_growing_memory_misses_its_aim_and_steady_memory_does_not() -> None:
    steady = load._growth([60.0, 61.0, 60.0, 60.5, 60.0] * 4, 5)
    growing = load._growth([60.0 + number for number in range(20)], 5)

    assert steady.met is True
    assert growing.met is False
