"""Many clients at the same time: throughput, latency and rejected requests.

    python -m tests.benchmarks.sections.gateway.load [--seconds 10]

Requests go through the emulated API Gateway to real Lambdas. The model takes a fixed time per
image, so that the gateway and the queue are measured and not the model.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
import time
from collections import Counter
from functools import partial
from typing import NamedTuple

import aiohttp

from tests.benchmarks.lib.cpu_time import CpuTime, Groups, cpu_time
from tests.benchmarks.lib.gateway.clients import (
    ClientResults,
    Response,
    run_clients,
    send_request,
    session,
)
from tests.benchmarks.lib.gateway.deployment import (
    GENERATION_SECONDS,
    SETTINGS,
    Deployment,
    deployed,
)
from tests.benchmarks.lib.measuring import Samples, table
from tests.benchmarks.lib.processes import process_tree
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, number, print_section
from tests.end_to_end.account import ASYNC_ENDPOINT, ENDPOINT

MODELS = {"real-time": "sd", "asynchronous": "sdxl"}  # the model behind each kind of endpoint
CEILING = 1 / GENERATION_SECONDS
# How many clients request one image, and how many other requests one client sends meanwhile.
SAME_IMAGE_CLIENTS, OTHER_REQUESTS = SETTINGS.most_waiting + 4, 12
TEXT = f"""\
Each client requests an image, waits for it and requests the next without a pause; after a rejection
it waits for `Retry-After`, 5 seconds at most. Requests pass the emulated API Gateway, up to
{SETTINGS.concurrency} Lambdas and the emulated SageMaker, all on this machine. The model generates
one image of 300 kB at a time and takes {GENERATION_SECONDS:g} s for it. The baseline is therefore
the ceiling: {CEILING:g} images per second. The variables of the function and its reserved
concurrency are those that `deploy` writes, so {SETTINGS.most_waiting} requests can wait for
asynchronous images. The throttling of API Gateway and the images per minute of an address, which
are far below the ceiling, are off: they would be all that is measured. Throughput counts images
that arrived while the clients were sending requests.
"""
LATENCIES = """\
Latency of images, redirects included, and the responses without one. `500 gateway_busy` comes from
API Gateway itself when all Lambdas are busy."""
CPU_TIMES = """\
Generations on the model, processor time of each component per delivered image in milliseconds, and
the share of both cores that other programs used. Each component except the Lambdas is one process;
{ceiling:g} images per second require more than one core where the times of a line add up to more
than {generation:g} ms."""
REMARK = """\
Each poll of S3 for a waiting client is a call that a Lambda signs and the emulated S3, one thread
of a Python process, answers; this is the additional cost of an asynchronous image here. Clients
that request the same real-time image form a queue in front of one GPU, which delays all other
requests, too."""
NOT_QUIET = """\
The machine was not quiet: other programs used up to {share:.0%} of both cores in a run. The ratios
are therefore lower limits."""
_QUIET = 0.1


class Knobs(NamedTuple):
    """What the command line sets."""

    seconds: float = 10.0
    clients: tuple[int, ...] = (1, 5, 20, 50, 200)
    other_requests: int = OTHER_REQUESTS


def section(quick: bool = False, knobs: Knobs | None = None) -> Section:
    """Measure throughput, reuse of stored images, and fairness."""
    knobs = knobs or (Knobs(2.0, (2,), 2) if quick else Knobs())
    with deployed() as deployment:
        runs = {
            (kind, count): _run(deployment, model, knobs.seconds, count)
            for kind, model in MODELS.items()
            for count in knobs.clients
        }
        stored = stored_image_rows(deployment)
        fairness = fairness_rows(deployment, knobs.other_requests)
    rows = (
        *(_throughput(kind, count, run.results) for (kind, count), run in runs.items()),
        *stored,
        *fairness,
    )
    return Section("Under load", TEXT, rows, _details(runs), ("chalice", "boto3", "aiohttp"))


class Run(NamedTuple):
    """The responses of a run, the processor time it took and the generations on the model."""

    results: ClientResults
    cpu_time: CpuTime
    generations: int


def _run(deployment: Deployment, model: str, seconds: float, count: int) -> Run:
    groups: Groups = {
        "the Lambdas": deployment.lambdas,
        "API Gateway": lambda: [deployment.gateway.process.pid],
        "SageMaker and S3": lambda: [deployment.cloud.process.pid],
        "the model": lambda: process_tree(deployment.model.process.pid),
        "the clients": lambda: [os.getpid()],
    }
    deployment.aws.clear_requests()
    before = cpu_time(groups)
    results = run_clients(seconds, count, partial(deployment.image_url, model))
    generations = sum(deployment.aws.runs(endpoint) for endpoint in (ENDPOINT, ASYNC_ENDPOINT))
    return Run(results, cpu_time(groups).since(before), generations)


def _throughput(kind: str, clients: int, results: ClientResults) -> Row:
    # A single client leaves the model idle while its next request is on its way.
    aim = Aim("ratio", at_least=0.5) if clients > 1 else None
    what = f"{kind}, {clients} client{'s' if clients > 1 else ''}"
    speed = Figure(round(results.per_second, 2))
    return Row(what, "images/s", speed, "the model alone", Figure(CEILING), aim)


def _details(runs: dict[tuple[str, int], Run]) -> str:
    groups = next(iter(runs.values())).cpu_time.groups
    latencies = [("", "clients", "images", "median s", "95 % s", "99 % s", "rejected or failed")]
    times: list[tuple[object, ...]] = [("", "clients", "generations", *groups, "other programs")]
    for (kind, count), (results, used, generations) in runs.items():
        counted = str(count), str(results.images)
        latencies.append((kind, *counted, *_percentiles(results), _errors(results)))
        per_image = [f"{each / max(results.images, 1):.0f}" for each in used.groups.values()]
        times.append((kind, count, generations, *per_image, f"{used.other_programs:.0%}"))
    described = CPU_TIMES.format(ceiling=CEILING, generation=1_000 / CEILING)
    return "\n\n".join(
        (
            LATENCIES,
            table(latencies[0], latencies[1:]),
            described,
            table(times[0], times[1:]),
            REMARK,
            *_quietness(max(run.cpu_time.other_programs for run in runs.values())),
        )
    )


def _quietness(share: float) -> tuple[str, ...]:
    """Return a paragraph if other programs slowed the measured ones down, else none."""
    return (NOT_QUIET.format(share=share),) if share > _QUIET else ()


def _percentiles(results: ClientResults) -> tuple[str, str, str]:
    if results.images < 2:
        return ("", "", "")
    latencies = results.latencies
    return (
        number(latencies.median),
        number(latencies.percentile(95)),
        number(latencies.percentile(99)),
    )


def _errors(results: ClientResults) -> str:
    return _counted(results.errors)


def _counted(responses: Counter[str]) -> str:
    return ", ".join(f"{count} x {error}" for error, count in responses.most_common()) or "none"


# --- Experiments ----------------------------------------------------------------------------------


def stored_image_rows(deployment: Deployment) -> list[Row]:
    """Request an asynchronous image that is stored already, against one that is not."""
    url = deployment.image_url("sdxl")
    deployment.aws.clear_requests(ASYNC_ENDPOINT)
    responses = asyncio.run(_one_by_one([url] * 31))
    generations = deployment.aws.runs(ASYNC_ENDPOINT)
    new = asyncio.run(_one_by_one([deployment.image_url("sdxl") for _ in range(15)]))
    what = f"generations for {len(responses)} requests for one image"
    return [
        Row(
            "an image served again from S3",
            "ms",
            _milliseconds(responses[1:]),
            "generating it",
            _milliseconds(new),
        ),
        Row(what, "", Figure(generations), aim=Aim("value", at_most=1)),
    ]


def fairness_rows(deployment: Deployment, count: int) -> list[Row]:
    """Request other images while many clients request the same one.

    On an asynchronous endpoint without an instance, the many clients hold the gateway's wait slots;
    on a real-time one, they queue in front of the model.
    """

    def urls(model: str) -> list[str]:
        return [deployment.image_url(model) for _ in range(count)]

    with deployment.aws.fault(ASYNC_ENDPOINT, "cold"):
        cold = _during_same_image_requests(deployment, "sdxl", urls("sdxl"), {"Prefer": "wait=2"})
        meanwhile = _during_same_image_requests(deployment, "sdxl", urls("sd"), {})
    alone = asyncio.run(_one_by_one(urls("sd")))
    queued = _during_same_image_requests(deployment, "sd", urls("sd"), {})
    delivered = [each for each in queued if each.is_image]
    same = f"while {SAME_IMAGE_CLIENTS} clients request the same one"
    return [
        _share(f"asynchronous, cold: another image {same}", "accepted", cold, 202),
        _share(f"asynchronous, cold: a real-time image {same}", "delivered", meanwhile, 200),
        Row(
            f"real-time: another image {same}",
            "ms",
            _milliseconds(delivered) if len(delivered) > 1 else None,
            "without other clients",
            _milliseconds(alone),
            note="all requests share one queue",
        ),
    ]


def _share(what: str, verb: str, responses: list[Response], status: int) -> Row:
    """Return the share of responses with a status, and the others in the note."""
    others = [each for each in responses if each.status != status]
    share = 100 * (len(responses) - len(others)) / len(responses)
    note = f"others: {_counted(Counter(f'{each.status} {each.code}' for each in others))}"
    return Row(what, f"% {verb}", Figure(round(share)), aim=Aim("value", at_least=90), note=note)


def _during_same_image_requests(
    deployment: Deployment, model: str, urls: list[str], headers: dict[str, str]
) -> list[Response]:
    """Return the responses to one client while many others keep requesting one image."""
    same = deployment.image_url(model)
    done = threading.Event()

    async def request_same() -> None:
        async with session() as http:
            clients = [_until(http, same, done) for _ in range(SAME_IMAGE_CLIENTS)]
            await asyncio.gather(*clients)

    thread = threading.Thread(target=lambda: asyncio.run(request_same()), daemon=True)
    thread.start()
    time.sleep(3)  # until the wait slots are taken and the Lambdas have started
    try:
        return asyncio.run(_one_by_one(urls, headers))
    finally:
        done.set()
        thread.join()


async def _until(http: aiohttp.ClientSession, url: str, done: threading.Event) -> None:
    while not done.is_set():
        response = await send_request(http, url, {"Prefer": "wait=10"})
        if not response.is_image and response.status != 202:
            await asyncio.sleep(response.retry_after)


async def _one_by_one(urls: list[str], headers: dict[str, str] | None = None) -> list[Response]:
    async with session() as http:
        return [await send_request(http, url, headers) for url in urls]


def _milliseconds(responses: list[Response]) -> Figure:
    return Figure.of(Samples(tuple(each.seconds * 1_000 for each in responses)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Many clients at the same time.")
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    options = parser.parse_args()
    print_section(lambda: section(knobs=Knobs(options.seconds)))


if __name__ == "__main__":
    main()
