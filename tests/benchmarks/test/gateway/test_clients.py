"""Simulated clients, and what is reported of their responses."""

from __future__ import annotations

import itertools
import json

import pytest

from endpoint.emulator.process.http_server import QuietHandler, serving
from tests.benchmarks.lib.cpu_time import CpuTime
from tests.benchmarks.lib.gateway.clients import (
    ClientResults,
    Response,
    run_clients,
    seconds_to_next,
)
from tests.benchmarks.sections.gateway import load

IMAGE = b"\x89PNG and so on"


class Alternating(QuietHandler):
    """An image, an error of the gateway's, one of API Gateway's, and HTML as 200; in turns."""

    answers = itertools.cycle(
        [
            (200, IMAGE, []),
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

    def do_GET(self):
        status, body, headers = next(self.answers)
        self.answer(status, headers, body)


@pytest.fixture(scope="module")
def results():
    with serving(Alternating) as server:
        yield run_clients(0.5, 1, lambda: server.url)


def test_every_response_is_an_image_or_counted_by_its_error(results):
    assert results.images >= 1
    assert set(results.errors) == {
        "503 too_many_waiting",
        "500 Internal server error",
        "0 no image",
    }
    assert results.images + results.errors.total() == len(results.responses)


def test_only_images_count_for_latency_and_throughput(results):
    assert len(results.latencies.values) == results.images
    on_time = sum(response.is_image for response in results.responses if not response.late)
    assert results.per_second == on_time / results.seconds


def test_an_image_that_arrives_late_does_not_count_for_throughput():
    results = ClientResults([Response(1, 200, ""), Response(3, 200, "", late=True)], 2)

    assert (results.images, results.per_second) == (2, 0.5)


def test_a_rejected_client_waits_for_retry_after_but_not_longer_than_the_run():
    rejected = Response(1, 503, "endpoint_busy", retry_after=5)
    delivered = Response(1, 200, "", retry_after=5)

    assert seconds_to_next(rejected, 1, left=60) == 5
    assert seconds_to_next(delivered, 1, left=60) == 1
    assert seconds_to_next(rejected, 1, left=0.5) == 0.5
    assert seconds_to_next(rejected, 1, left=-2) == 0


def test_a_refused_connection_is_counted_as_an_error():
    with serving(Alternating) as server:
        url = server.url
    results = run_clients(0.01, 1, lambda: url)

    assert results.errors["0 ClientConnectorError"] == len(results.responses)


def test_the_tables_show_percentiles_errors_and_processor_time():
    responses = [Response(seconds / 100, 200, "") for seconds in range(101)]
    results = ClientResults([*responses, Response(1, 503, "endpoint_busy")], 10)

    used = CpuTime({"the Lambdas": 2_000.0}, machine=3_000, capacity=4_000)

    details = load._details({("real-time", 5): load.Run(results, used, 110)})

    assert "| real-time | 5 | 101 | 0.50 | 0.95 | 0.99 | 1 x 503 endpoint_busy |" in details
    assert "| | clients | generations | the Lambdas | other programs |" in details.replace(
        "|  |", "| |"
    )
    assert "| real-time | 5 | 110 | 20 | 25% |" in details
