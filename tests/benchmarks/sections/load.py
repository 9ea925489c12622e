"""Many visitors at once: how fast, how long, and what is refused.

    python -m tests.benchmarks.sections.load [--seconds 10]

All of it goes through the emulated API Gateway to real Lambdas; the model takes a fixed time for
each picture, so that gateway and queue are what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
import time
from functools import partial
from typing import NamedTuple

from tests.benchmarks.lib.load_world import (
    INSTANCES,
    MOST_WAITING,
    PAINTING_SECONDS,
    World,
    running,
)
from tests.benchmarks.lib.measuring import Samples, table
from tests.benchmarks.lib.processes import below
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, number, run_alone
from tests.benchmarks.lib.visitors import Crowd, Visit, ask, session, visit_for
from tests.benchmarks.lib.work import Parts, Work, work
from tests.end_to_end.conftest import ASYNC_ENDPOINT, ENDPOINT

WAYS = {"real-time": "sd", "asynchronous": "sdxl"}
CEILING = 1 / PAINTING_SECONDS
# A crowd that waits for one picture, and how often one visitor asks for another meanwhile.
CROWD, LONE_VISITS = MOST_WAITING + 4, 12
TEXT = f"""\
Visitors who ask for a picture, wait for it and ask for the next, without a pause; who is refused
comes back when told, after 5 seconds at most. Between them and the model stand the emulated API
Gateway, up to {INSTANCES} Lambdas and the emulated SageMaker, all on this machine. The model takes
{PAINTING_SECONDS:g} s for each picture of 300 kB, one after the other: {CEILING:g} pictures in a
second are the most that there can be, and the baseline. `EASEL_MOST_WAITING` is {MOST_WAITING}.
What counts as throughput is pictures that came while the crowd kept asking.
"""


TIMES = """\
How long pictures took, redirects included, and what came in their place. `500 Internal server
error` is API Gateway's own, when all Lambdas are busy."""
WORK = """\
What that took: how often the model painted, the processor time of each part for one picture that
came, in milliseconds, and the share of both cores that other programs had meanwhile. Each part is
one process but the Lambdas; {ceiling:g} pictures in a second want more than a core where the times
of a line add up to more than {painting:g} ms."""
REMARK = """\
Every look of a waiting visitor into S3 is a call that a Lambda signs and the emulated S3, a thread
of one Python process, answers: that is what an asynchronous picture costs more here. A crowd that
asks for one real-time picture is a queue in front of one GPU, in which everybody else stands,
too."""


class Knobs(NamedTuple):
    """What the command line sets."""

    seconds: float = 10.0
    visitors: tuple[int, ...] = (1, 5, 20, 50, 200)
    lone_visits: int = LONE_VISITS


def section(quick: bool = False, knobs: Knobs | None = None) -> Section:
    """Measure all of it."""
    knobs = knobs or (Knobs(2.0, (2,), 2) if quick else Knobs())
    with running() as world:
        crowds = {
            (way, count): _crowd(world, model, knobs.seconds, count)
            for way, model in WAYS.items()
            for count in knobs.visitors
        }
        again = served_again(world)
        fairness = one_beside_a_crowd(world, knobs.lone_visits)
    rows = (
        *(_throughput(way, count, each.crowd) for (way, count), each in crowds.items()),
        *again,
        *fairness,
    )
    return Section("Under load", TEXT, rows, _details(crowds), ("chalice", "boto3", "aiohttp"))


class Measured(NamedTuple):
    """A crowd, what was computed for it, and how often the model painted."""

    crowd: Crowd
    work: Work
    runs: int


def _crowd(world: World, model: str, seconds: float, count: int) -> Measured:
    parts: Parts = {
        "the Lambdas": world.lambdas,
        "API Gateway": lambda: [world.gateway.process.pid],
        "SageMaker and S3": lambda: [world.cloud.process.pid],
        "the model": lambda: below(world.model.process.pid),
        "the visitors": lambda: [os.getpid()],
    }
    world.aws.clear_requests()
    before = work(parts)
    crowd = visit_for(seconds, count, partial(world.picture, model))
    runs = sum(world.aws.runs(endpoint) for endpoint in (ENDPOINT, ASYNC_ENDPOINT))
    return Measured(crowd, work(parts).since(before), runs)


def _throughput(way: str, visitors: int, crowd: Crowd) -> Row:
    # One visitor's next question is on its way while the model has nothing to do.
    aim = Aim("ratio", at_least=0.5) if visitors > 1 else None
    what = f"{way}, {visitors} visitor{'s' if visitors > 1 else ''}"
    speed = Figure(round(crowd.per_second, 2))
    return Row(what, "pictures/s", speed, "the model alone", Figure(CEILING), aim)


def _details(crowds: dict[tuple[str, int], Measured]) -> str:
    parts = next(iter(crowds.values())).work.parts
    times = [("", "visitors", "pictures", "median s", "95 % s", "99 % s", "refused or failed")]
    efforts: list[tuple[object, ...]] = [("", "visitors", "runs", *parts, "other programs")]
    for (way, count), (crowd, done, runs) in crowds.items():
        counted = str(count), str(crowd.pictures)
        times.append((way, *counted, *_percentiles(crowd), _refusals(crowd)))
        each = [f"{spent / max(crowd.pictures, 1):.0f}" for spent in done.parts.values()]
        efforts.append((way, count, runs, *each, f"{done.others:.0%}"))
    said = WORK.format(ceiling=CEILING, painting=1_000 / CEILING)
    tables = (TIMES, table(times[0], times[1:]), said, table(efforts[0], efforts[1:]), REMARK)
    return "\n\n".join(tables)


def _percentiles(crowd: Crowd) -> tuple[str, str, str]:
    if crowd.pictures < 2:
        return ("", "", "")
    latencies = crowd.latencies
    return (
        number(latencies.median),
        number(latencies.percentile(95)),
        number(latencies.percentile(99)),
    )


def _refusals(crowd: Crowd) -> str:
    return ", ".join(f"{count} x {what}" for what, count in crowd.refused.most_common()) or "none"


# --- Experiments ----------------------------------------------------------------------------------


def served_again(world: World) -> list[Row]:
    """Ask for an asynchronous picture that is there already."""
    url = world.picture("sdxl")
    world.aws.clear_requests(ASYNC_ENDPOINT)
    visits = asyncio.run(_one_by_one([url] * 31))
    runs = world.aws.runs(ASYNC_ENDPOINT)
    fresh = asyncio.run(_one_by_one([world.picture("sdxl") for _ in range(15)]))
    times = [_milliseconds(some) for some in (visits[1:], fresh)]
    baseline = "painting it"
    return [
        Row("a picture served again from S3", "ms", times[0], baseline, times[1]),
        Row(f"GPU runs for {len(visits)} visits to one picture", "", Figure(runs), aim=_ONE),
    ]


_ONE = Aim("value", at_most=1)


def one_beside_a_crowd(world: World, visits: int) -> list[Row]:
    """Let one visitor ask for other pictures while a crowd asks for the same one.

    On an asynchronous endpoint that has no instance yet, the crowd waits in the gateway's places;
    on a real-time one, in the model's queue.
    """
    with world.aws.fault(ASYNC_ENDPOINT, "cold"):
        lone = _beside(world, "sdxl", visits, {"Prefer": "wait=2"})
    taken = sum(visit.status == 202 for visit in lone)
    alone = _milliseconds(asyncio.run(_one_by_one([world.picture("sd") for _ in range(visits)])))
    beside = _beside(world, "sd", visits, {})
    painted = [visit for visit in beside if visit.is_picture]
    what = f"beside {CROWD} who ask for one picture"
    return [
        Row(
            f"asynchronous, cold: another picture {what}",
            "% taken",
            Figure(round(100 * taken / visits)),
            aim=Aim("value", at_least=90),
            note=_refusals(Crowd([visit for visit in lone if visit.status != 202], 1)),
        ),
        Row(
            f"real-time: another picture {what}",
            "ms",
            _milliseconds(painted) if len(painted) > 1 else None,
            "with nobody else",
            alone,
            note="they stand in one queue",
        ),
    ]


def _beside(world: World, model: str, visits: int, headers: dict[str, str]) -> list[Visit]:
    """Return what one visitor gets while a crowd keeps asking for the same picture."""
    same = world.picture(model)
    done = threading.Event()

    async def crowd() -> None:
        async with session() as client:
            await asyncio.gather(*(_until(client, same, done) for _ in range(CROWD)))

    thread = threading.Thread(target=lambda: asyncio.run(crowd()), daemon=True)
    thread.start()
    time.sleep(3)  # the crowd has found its places, and Lambdas have started
    try:
        urls = [world.picture(model) for _ in range(visits)]
        return asyncio.run(_one_by_one(urls, headers))
    finally:
        done.set()
        thread.join()


async def _until(client: object, url: str, done: threading.Event) -> None:
    while not done.is_set():
        visit = await ask(client, url, {"Prefer": "wait=10"})  # type: ignore[arg-type]
        if not visit.is_picture and visit.status != 202:
            await asyncio.sleep(visit.pause)


async def _one_by_one(urls: list[str], headers: dict[str, str] | None = None) -> list[Visit]:
    async with session() as client:
        return [await ask(client, url, headers) for url in urls]


def _milliseconds(visits: list[Visit]) -> Figure:
    return Figure.of(Samples(tuple(visit.seconds * 1_000 for visit in visits)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Many visitors at once.")
    parser.add_argument("--seconds", type=float, default=10, help="for each crowd")
    asked = parser.parse_args()
    run_alone(lambda: section(knobs=Knobs(asked.seconds)))


if __name__ == "__main__":
    main()
