"""Visitors in a crowd: each asks for a picture, waits for it, and asks again."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import aiohttp

from tests.benchmarks.lib.measuring import Samples

# A visitor who was refused comes back when told, and after this at the latest.
_LONGEST_PAUSE = 5.0
_ANSWER_SECONDS = aiohttp.ClientTimeout(total=240)


@dataclass(frozen=True)
class Visit:
    """One answer, redirects followed.

    Attributes:
        seconds: from the question to the answer.
        code: of a refusal, as the gateway or API Gateway words it.
        pause: for how many seconds a refused visitor is told to stay away.
        late: whether the answer came after the time that the crowd had.
    """

    seconds: float
    status: int
    code: str
    pause: float = 0.0
    late: bool = False

    @property
    def is_picture(self) -> bool:
        return self.status == 200


class Crowd:
    """What many visits came to.

    Attributes:
        visits: all of them.
        seconds: for how long the crowd kept asking.
    """

    def __init__(self, visits: Iterable[Visit], seconds: float) -> None:
        self.visits, self.seconds = list(visits), seconds

    @property
    def latencies(self) -> Samples:
        """The seconds that pictures took."""
        return Samples(tuple(visit.seconds for visit in self.visits if visit.is_picture))

    @property
    def pictures(self) -> int:
        return sum(visit.is_picture for visit in self.visits)

    @property
    def per_second(self) -> float:
        """Pictures that came while the crowd kept asking, in a second.

        Those that come afterwards tell nothing of the throughput: the crowd gets smaller then.
        """
        return sum(visit.is_picture and not visit.late for visit in self.visits) / self.seconds

    @property
    def refused(self) -> Counter[str]:
        """How often what was answered in a picture's place."""
        return Counter(f"{each.status} {each.code}" for each in self.visits if not each.is_picture)


def visit_for(seconds: float, count: int, url: Callable[[], str], pause: float = 0.0) -> Crowd:
    """Let `count` visitors ask for so many seconds, and wait for the last answers.

    Args:
        seconds: for how long they ask.
        count: how many they are.
        url: returns what is asked for next.
        pause: how many seconds a visitor looks at a picture before asking for another.
    """
    return asyncio.run(_crowd(seconds, count, url, pause))


async def _crowd(seconds: float, count: int, url: Callable[[], str], pause: float) -> Crowd:
    until = time.perf_counter() + seconds
    async with session() as client:
        visitors = [_visitor(client, url, until, pause) for _ in range(count)]
        visits = [visit for each in await asyncio.gather(*visitors) for visit in each]
    return Crowd(visits, seconds)


def session() -> aiohttp.ClientSession:
    """Return a client with as many connections as there are visitors."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=_ANSWER_SECONDS)


async def _visitor(
    client: aiohttp.ClientSession, url: Callable[[], str], until: float, pause: float
) -> list[Visit]:
    visits = []
    while time.perf_counter() < until:
        visit = await ask(client, url())
        left = until - time.perf_counter()
        visits.append(replace(visit, late=left < 0))
        await asyncio.sleep(stays_away(visit, pause, left))
    return visits


def stays_away(visit: Visit, pause: float, left: float) -> float:
    """Return for how many seconds a visitor rests, of those that are left to the crowd."""
    return max(min(pause if visit.is_picture else visit.pause, left), 0)


async def ask(
    client: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None
) -> Visit:
    """Ask once; a broken connection is an answer, too."""
    started = time.perf_counter()
    try:
        async with client.get(url, headers=headers) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        return Visit(time.perf_counter() - started, 0, type(error).__name__, 1.0)
    seconds = time.perf_counter() - started
    if response.status == 200 and not body.startswith(b"\x89PNG"):
        return Visit(seconds, 0, "no picture")
    told = min(float(response.headers.get("Retry-After") or 1), _LONGEST_PAUSE)
    return Visit(seconds, response.status, "" if response.status == 200 else _code(body), told)


def _code(body: bytes) -> str:
    try:
        data = json.loads(body)
    except ValueError:
        return body[:40].decode(errors="replace")
    error = data.get("error")
    return str(error["code"] if error else data.get("state") or data.get("message"))
