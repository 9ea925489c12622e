"""The model server behind each endpoint, and the requests to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import urllib3

from endpoint.emulator.sagemaker.control_plane import Endpoint


class NoResponse(Exception):
    """The container did not answer in time (`late`), or there is none."""

    def __init__(self, message: str, *, late: bool) -> None:
        self.late = late
        super().__init__(message)


@dataclass(frozen=True)
class ContainerResponse:
    """A model server's response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Containers(Protocol):
    """Reaches the container of an endpoint.

    `Registry` forwards to model servers that were started elsewhere. A test's double answers in
    this process.
    """

    def ask(
        self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> ContainerResponse:
        """Return the container's response to one invocation.

        Args:
            endpoint: whose container.
            headers: sent as they are, with their upper- and lower-case letters.
            body: the request.
            seconds: how long the container may stay silent, in real seconds.

        Raises:
            NoResponse: if no response came in time, or there is no container.
        """


_POOL = urllib3.PoolManager(maxsize=32)


class Response(Protocol):
    """What a container in this process answers."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes: ...


class Container(Protocol):
    """A container in this process."""

    def answer(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Respond to `POST /invocations`."""


class Registry:
    """The container of each endpoint, by its name: the address of a model server, or an object.

    Args:
        urls: addresses of model servers that were started elsewhere.

    Attributes:
        otherwise: returns the container of an endpoint for which none was registered, or None.
    """

    def __init__(self, urls: Mapping[str, str] | None = None) -> None:
        self._containers: dict[str, str | Container] = dict(urls or {})
        self.otherwise: Callable[[Endpoint], Container | None] = lambda _: None

    def register(self, endpoint: str, container: str | Container | None) -> None:
        """Put a container behind an endpoint; None removes it."""
        if container is None:
            self._containers.pop(endpoint, None)
        else:
            self._containers[endpoint] = container

    def ask(
        self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> ContainerResponse:
        container = self._containers.get(endpoint.name) or self.otherwise(endpoint)
        if container is None:
            raise NoResponse("no container", late=False)
        if not isinstance(container, str):
            response = container.answer(headers, body)
            lowered = {name.lower(): value for name, value in response.headers.items()}
            return ContainerResponse(response.status, lowered, response.body)
        url = container.rstrip("/")
        # Connecting to this machine takes no time unless the server hangs.
        timeout = urllib3.Timeout(connect=min(seconds, 5.0), read=seconds)
        try:
            answer = _POOL.request(
                "POST", f"{url}/invocations", body, headers=headers, timeout=timeout, retries=False
            )
        except urllib3.exceptions.ReadTimeoutError as error:
            raise NoResponse("too late", late=True) from error
        except urllib3.exceptions.HTTPError as error:
            raise NoResponse(str(error), late=False) from error
        # A repeated header is joined, as SageMaker's own proxy does.
        lowered = {name.lower(): value for name, value in answer.headers.items()}
        return ContainerResponse(answer.status, lowered, answer.data)
