"""The queue of an asynchronous endpoint, and the workers that empty it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.async_requests import AsyncRequest
from endpoint.emulator.sagemaker.control_plane import Endpoint, find_endpoint

logger = logging.getLogger(__name__)

# How often a queue looks at moto's state, which changes without telling: instances added or
# removed, the endpoint deleted. In real seconds.
_LOOK_AGAIN_SECONDS = 0.05

# What is left to do when the model server has answered.
Rest = Callable[[], None]


class AsyncQueue:
    """Requests in the order of their arrival, at most `instances x concurrency` under way.

    At zero instances requests wait, for as long as they live. When the endpoint is deleted, what
    waits is lost without a trace, and so is the result of what is under way.

    Args:
        work: has a model server do one request, and returns what is left to do with its answer.
            That is not under way any more: MaxConcurrentInvocationsPerInstance is "the maximum
            number of concurrent requests sent by the SageMaker client to the model container"
            (API reference of AsyncInferenceClientConfig).
        expire: says that a request waited longer than its time to live.
        held: whether a fault keeps the whole queue waiting.
    """

    def __init__(
        self,
        clock: Clock,
        work: Callable[[AsyncRequest], Rest | None],
        expire: Callable[[AsyncRequest], None],
        held: Callable[[str], bool],
    ) -> None:
        self._clock, self._work, self._expire, self._held = clock, work, expire, held
        self._changed = threading.Condition()
        self._waiting: deque[AsyncRequest] = deque()
        self._under_way: dict[tuple[str, str], int] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="async-queue")

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def put(self, request: AsyncRequest) -> None:
        """Queue a request."""
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()

    def waiting(self, endpoint: str) -> int:
        """Return how many requests of an endpoint wait (ApproximateBacklogSize)."""
        with self._changed:
            return sum(request.endpoint.name == endpoint for request in self._waiting)

    def under_way(self, endpoint: Endpoint) -> int:
        """Return how many of an endpoint's requests are at a container."""
        with self._changed:
            return self._under_way.get((endpoint.region, endpoint.name), 0)

    def close(self) -> None:
        """Forget what waits; what is under way ends by itself."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                self._look()
                self._changed.wait(_LOOK_AGAIN_SECONDS if self._waiting else None)

    def _look(self) -> None:
        """Start, expire or drop each waiting request, or leave it for the next look."""
        left: deque[AsyncRequest] = deque()
        for request in self._waiting:
            endpoint = self.present(request)
            if endpoint is None:
                continue
            if self._clock.now() - request.queued > request.ttl:
                _in_thread(self._expire, request)
            elif self._has_room(endpoint):
                self._start(request)
            else:
                left.append(request)
        self._waiting = left

    def present(self, request: AsyncRequest) -> Endpoint | None:
        """Return the endpoint that took the request as it is now; None once it is deleted."""
        known = request.endpoint
        now = find_endpoint(known.name, known.region)
        return now if now is not None and now.created == known.created else None

    def _has_room(self, endpoint: Endpoint) -> bool:
        if endpoint.asynchronous is None or self._held(endpoint.name):
            return False
        capacity = endpoint.instances * endpoint.asynchronous.concurrency
        return self._under_way.get((endpoint.region, endpoint.name), 0) < capacity

    def _start(self, request: AsyncRequest) -> None:
        key = (request.endpoint.region, request.endpoint.name)
        self._under_way[key] = self._under_way.get(key, 0) + 1
        _in_thread(self._one, request, key)

    def _one(self, request: AsyncRequest, key: tuple[str, str]) -> None:
        try:
            try:
                rest = self._work(request)
            finally:
                with self._changed:
                    self._under_way[key] -= 1
                    self._changed.notify()
            if rest is not None:
                rest()
        except Exception:
            logger.exception("An asynchronous invocation failed inside the emulator")


def _in_thread(work: Callable[..., None], *arguments: Any) -> None:
    # No pool: its threads would keep the process from ending before their last invocation has.
    threading.Thread(target=work, args=arguments, daemon=True, name="async-invocation").start()
