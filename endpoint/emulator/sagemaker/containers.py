"""Which model server stands behind an endpoint, and the conversation with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import urllib3

from endpoint.emulator.sagemaker.control_plane import Endpoint


class NoAnswer(Exception):
    """The container did not answer: too late (`late`), or there is none."""

    def __init__(self, message: str, *, late: bool) -> None:
        self.late = late
        super().__init__(message)


@dataclass(frozen=True)
class ContainerResponse:
    """What a model server answered; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Containers(Protocol):
    """Finds the model server of an endpoint.

    The registry below knows model servers that somebody else started. One that starts a model
    server from the endpoint's own environment and model data fits in its place.
    """

    def url(self, endpoint: Endpoint) -> str | None:
        """Return the model server's address without a slash at the end, or None."""


class Registry:
    """Model servers that were started elsewhere, by the endpoint's name."""

    def __init__(self, urls: Mapping[str, str] | None = None) -> None:
        self._urls = dict(urls or {})

    def register(self, endpoint: str, url: str | None) -> None:
        """Put a model server behind an endpoint; None takes it away."""
        if url is None:
            self._urls.pop(endpoint, None)
        else:
            self._urls[endpoint] = url.rstrip("/")

    def url(self, endpoint: Endpoint) -> str | None:
        return self._urls.get(endpoint.name)


_POOL = urllib3.PoolManager(maxsize=32)


def call(
    url: str | None, headers: Mapping[str, str], body: bytes, seconds: float
) -> ContainerResponse:
    """Send one invocation to a model server and read its whole answer.

    Args:
        url: the model server's address, None if there is none.
        headers: sent as they are, with their upper- and lower-case letters.
        body: the request.
        seconds: how long the server may stay silent, in real seconds.

    Raises:
        NoAnswer: when there was no answer in time or no server.
    """
    if url is None:
        raise NoAnswer("no container", late=False)
    timeout = urllib3.Timeout(connect=min(seconds, 5.0), read=seconds)
    try:
        answer = _POOL.request(
            "POST", f"{url}/invocations", body, headers=headers, timeout=timeout, retries=False
        )
    except urllib3.exceptions.ReadTimeoutError as error:
        raise NoAnswer("too late", late=True) from error
    except urllib3.exceptions.HTTPError as error:
        raise NoAnswer(str(error), late=False) from error
    # A repeated header is joined, as SageMaker's own proxy does.
    lowered = {name.lower(): value for name, value in answer.headers.items()}
    return ContainerResponse(answer.status, lowered, answer.data)
