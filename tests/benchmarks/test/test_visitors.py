"""Visitors in a crowd, and what is told of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from endpoint.emulator.process.http_server import QuietHandler, serving
from tests.benchmarks.lib.visitors import Crowd, Visit, stays_away, visit_for
from tests.benchmarks.lib.work import Work
from tests.benchmarks.sections import load

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
    on_time = sum(visit.is_picture for visit in crowd.visits if not visit.late)
    assert crowd.per_second == on_time / crowd.seconds


def test_a_picture_that_comes_when_the_time_is_over_is_no_throughput() -> None:
    found = Crowd([Visit(1, 200, ""), Visit(3, 200, "", late=True)], 2)

    assert (found.pictures, found.per_second) == (2, 0.5)


def test_who_was_refused_stays_away_as_told_but_not_longer_than_the_crowd() -> None:
    refused, painted = Visit(1, 503, "endpoint_busy", pause=5), Visit(1, 200, "", pause=5)

    assert stays_away(refused, 1, left=60) == 5
    assert stays_away(painted, 1, left=60) == 1
    assert stays_away(refused, 1, left=0.5) == 0.5
    assert stays_away(refused, 1, left=-2) == 0


def test_nobody_at_home_is_an_answer_too() -> None:
    with serving(Sometimes) as server:
        url = server.url
    found = visit_for(0.01, 1, lambda: url)

    assert found.refused["0 ClientConnectorError"] == len(found.visits)


def test_a_crowd_s_lines_tell_percentiles_refusals_and_what_it_took() -> None:
    visits = [Visit(seconds / 100, 200, "") for seconds in range(101)]
    found = Crowd([*visits, Visit(1, 503, "endpoint_busy")], 10)

    work = Work({"the Lambdas": 2_000.0}, machine=3_000, whole=4_000)

    details = load._details({("real-time", 5): load.Measured(found, work, 110)})

    assert "| real-time | 5 | 101 | 0.50 | 0.95 | 0.99 | 1 x 503 endpoint_busy |" in details
    assert "| | visitors | runs | the Lambdas | other programs |" in details.replace("|  |", "| |")
    assert "| real-time | 5 | 110 | 20 | 25% |" in details
