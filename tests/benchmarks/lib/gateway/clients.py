"""Simulated clients: each requests an image, waits for the response and requests the next."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import aiohttp

from tests.benchmarks.lib.measuring import Samples

# A rejected client honours Retry-After up to this many seconds, so that a short run still has load.
_LONGEST_PAUSE = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=240)


@dataclass(frozen=True)
class Response:
    """The response to one request, after redirects.

    Attributes:
        seconds: from sending the request to the last byte of the response.
        status: the HTTP status; 0 for a broken connection or a body that is no image.
        code: the error code in the body, from the gateway or from API Gateway.
        retry_after: seconds until a rejected client can try again.
        late: whether the response arrived after the measured time.
    """

    seconds: float
    status: int
    code: str
    retry_after: float = 0.0
    late: bool = False

    @property
    def is_image(self) -> bool:
        return self.status == 200


class ClientResults:
    """All responses of a run.

    Attributes:
        responses: in no particular order.
        seconds: for how long the clients sent requests.
    """

    def __init__(self, responses: Iterable[Response], seconds: float) -> None:
        self.responses, self.seconds = list(responses), seconds

    @property
    def latencies(self) -> Samples:
        """The seconds that images took."""
        return Samples(tuple(each.seconds for each in self.responses if each.is_image))

    @property
    def images(self) -> int:
        return sum(each.is_image for each in self.responses)

    @property
    def per_second(self) -> float:
        """Images per second, without late ones: the load decreases once the time is over."""
        return sum(each.is_image and not each.late for each in self.responses) / self.seconds

    @property
    def errors(self) -> Counter[str]:
        """The number of responses without an image, by status and code."""
        return Counter(f"{each.status} {each.code}" for each in self.responses if not each.is_image)


def run_clients(
    seconds: float, count: int, url: Callable[[], str], pause: float = 0.0
) -> ClientResults:
    """Run clients at the same time, and wait for their last responses.

    Args:
        seconds: for how long they send requests.
        count: the number of clients.
        url: returns the URL of the next request.
        pause: seconds between an image and the same client's next request.
    """
    return asyncio.run(_run_clients(seconds, count, url, pause))


async def _run_clients(
    seconds: float, count: int, url: Callable[[], str], pause: float
) -> ClientResults:
    until = time.perf_counter() + seconds
    async with session() as http:
        clients = [_client(http, url, until, pause) for _ in range(count)]
        responses = [each for some in await asyncio.gather(*clients) for each in some]
    return ClientResults(responses, seconds)


def session() -> aiohttp.ClientSession:
    """Return an HTTP client without a limit on its connections."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)


async def _client(
    http: aiohttp.ClientSession, url: Callable[[], str], until: float, pause: float
) -> list[Response]:
    responses = []
    while time.perf_counter() < until:
        response = await send_request(http, url())
        left = until - time.perf_counter()
        responses.append(replace(response, late=left < 0))
        await asyncio.sleep(seconds_to_next(response, pause, left))
    return responses


def seconds_to_next(response: Response, pause: float, left: float) -> float:
    """Return how long a client waits after a response, at most the `left` seconds of the run."""
    return max(min(pause if response.is_image else response.retry_after, left), 0)


async def send_request(
    http: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None
) -> Response:
    """Send one request; a broken connection is a response with status 0."""
    started = time.perf_counter()
    try:
        async with http.get(url, headers=headers) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        return Response(time.perf_counter() - started, 0, type(error).__name__, 1.0)
    seconds = time.perf_counter() - started
    if response.status == 200 and not body.startswith(b"\x89PNG"):
        return Response(seconds, 0, "no image")
    retry_after = min(float(response.headers.get("Retry-After") or 1), _LONGEST_PAUSE)
    code = "" if response.status == 200 else _code(body)
    return Response(seconds, response.status, code, retry_after)


def _code(body: bytes) -> str:
    try:
        data = json.loads(body)
    except ValueError:
        return body[:40].decode(errors="replace")
    error = data.get("error")
    return str(error["code"] if error else data.get("state") or data.get("message"))
