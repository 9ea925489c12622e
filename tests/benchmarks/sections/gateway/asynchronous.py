"""Asynchronous against real-time endpoints: latency, and the cost of waiting.

    python -m tests.benchmarks.sections.gateway.asynchronous

Both use the emulated SageMaker and a model server without delay, so that the difference is the
queue, S3 and the gateway's polling. The gateway runs in this process, with the real boto3. S3 calls
are counted as boto3 sends them, at Amazon's list price for S3 Standard in us-east-1
(https://aws.amazon.com/s3/pricing/, November 2026): 0.005 USD for 1,000 writes and lists, 0.0004
USD for 1,000 reads.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from chalicelib.dialects import urls
from chalicelib.images.service import ImageService
from chalicelib.settings import Model, Queue, Settings
from chalicelib.web.request import Request
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.container.model_server import ModelServer
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.run import create_endpoint
from tests.benchmarks.lib.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.emulated_aws import empty_aws
from tests.end_to_end.account import ASYNC_ENDPOINT, BUCKET, ENDPOINT, create_async_endpoint
from tests.gateway.doubles import Provided

ROUNDS = 60
WAIT_SECONDS = 20
JOBS, CLIENTS = 100, 10
READS = {"GetObject", "HeadObject"}
FREE = {"DeleteObject"}
WRITE_PRICE, READ_PRICE = 0.005 / 1_000, 0.0004 / 1_000
_NUMBERS = itertools.count()
TEXT = """\
An asynchronous endpoint against a real-time one, both in the emulated SageMaker and in front of a
model server without delay, so that the difference is the queue, S3 and the gateway's polling. S3
calls are counted as boto3 sends them, at Amazon's list price for S3 Standard in us-east-1 (November
2026): 0.005 USD for 1,000 writes and lists, 0.0004 USD for 1,000 reads.
"""


class Gateway:
    """The gateway's image service in this process, and the AWS calls it makes."""

    def __init__(self, url: str) -> None:
        queue = Queue(ASYNC_ENDPOINT, BUCKET, "jobs/")
        models = {"real-time": Model("real-time", ENDPOINT), "queued": Model("queued", None, queue)}
        session = boto3.Session("testing", "testing", region_name="us-east-1")
        self.calls: Counter[str] = Counter()
        self._clients = {
            name: session.client(name, endpoint_url=url) for name in ("sagemaker-runtime", "s3")
        }
        for client in self._clients.values():
            client.meta.events.register("before-call.*.*", self._count)
        settings = Settings(models, 24, log_prompts=False)
        lazy = {name: Provided(client) for name, client in self._clients.items()}
        self._service = ImageService(settings, lazy["sagemaker-runtime"], lazy["s3"])

    def request(self, model: str, seconds: str | None = None) -> int:
        """Request a new image, and return the status."""
        query = {"model": [model], "seed": [str(next(_NUMBERS))]}
        headers = {} if seconds is None else {"prefer": f"wait={seconds}"}
        request = Request("GET", "/inference/{text}", "/inference/x", headers, query, "benchmark")
        return urls.picture(self._service, request, "a cat").status

    def _count(self, model: Any, **_: Any) -> None:
        self.calls[model.name] += 1


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    rounds, jobs = (3, CLIENTS) if quick else (ROUNDS, JOBS)
    with emulated_aws() as (url, switches):
        gateway = Gateway(url)
        latency = in_turns(
            {name: lambda name=name: _image(gateway, name) for name in ("real-time", "queued")},
            rounds,
        )
        image = calls_of(gateway, lambda: _image(gateway, "queued"))
        seconds = 2 if quick else WAIT_SECONDS
        with switches.fault(ASYNC_ENDPOINT, "cold"):
            waiting = calls_of(gateway, lambda: gateway.request("queued", str(seconds)))
        minute = Counter({name: round(n * 60 / seconds) for name, n in waiting.items()})
        return report(latency, image, minute, jobs_per_second(gateway, jobs))


@contextmanager
def emulated_aws() -> Iterator[tuple[str, EmulatorClient]]:
    """Serve AWS with one endpoint of each kind, in front of a model server without delay."""
    code = Path(__file__).parents[3] / "end_to_end" / "serving_code"
    with empty_aws() as aws, ModelServer(code, code, {}).serve() as model:
        clients = Clients(lambda: aws.url)
        create_endpoint(clients, ENDPOINT, {})
        create_async_endpoint(clients, ASYNC_ENDPOINT)
        for name in (ENDPOINT, ASYNC_ENDPOINT):
            aws.registry.register(name, model.url)
        yield aws.url, EmulatorClient(aws.url)


def _image(gateway: Gateway, model: str) -> float:
    def request() -> None:
        if gateway.request(model) != 200:
            raise RuntimeError("no image")

    return milliseconds(request)


def calls_of(gateway: Gateway, action: Any) -> Counter[str]:
    """Return the AWS calls of an action."""
    before = Counter(gateway.calls)
    action()
    return gateway.calls - before


def jobs_per_second(gateway: Gateway, jobs: int) -> float:
    """Return the jobs per second that ten concurrent clients submit without waiting."""
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(lambda _: gateway.request("queued", "0"), range(jobs)))
    return jobs / (time.perf_counter() - started)


def cost(calls: Counter[str]) -> float:
    """Return the list price of S3 calls, in USD."""
    s3 = {name: count for name, count in calls.items() if name.endswith("Object")}
    reads = sum(count for name, count in s3.items() if name in READS)
    writes = sum(count for name, count in s3.items() if name not in READS | FREE)
    return reads * READ_PRICE + writes * WRITE_PRICE


def report(
    latency: dict[str, Samples], image: Counter[str], minute: Counter[str], jobs: float
) -> Section:
    """Return the section."""
    rows = (
        Row(
            "an image from an asynchronous endpoint",
            "ms",
            Figure.of(latency["queued"]),
            "a real-time endpoint",
            Figure.of(latency["real-time"]),
            Aim("difference", at_most=300),
        ),
        Row("S3 calls for 1,000 images", "USD", _price(image), note=_described(image)),
        Row(
            "S3 calls for 1,000 minutes of waiting",
            "USD",
            _price(minute),
            note=f"{_described(minute)} per minute",
        ),
        Row(
            "jobs accepted per second",
            "",
            Figure(round(jobs)),
            note=f"{CLIENTS} concurrent clients",
        ),
    )
    return Section("Asynchronous endpoints", TEXT, rows, packages=("boto3", "moto"))


def _price(calls: Counter[str]) -> Figure:
    return Figure(cost(calls) * 1_000)


def _described(calls: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(calls.items()))


if __name__ == "__main__":
    print_section(section)
