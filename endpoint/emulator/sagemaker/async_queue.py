"""The queue of an asynchronous endpoint, and the workers that empty it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from functools import partial

from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.async_requests import AsyncRequest
from endpoint.emulator.sagemaker.control_plane import Endpoint, find_endpoint

logger = logging.getLogger(__name__)

# How often a queue reads moto's state, in real seconds. That changes without notice: instances are
# added or removed, the endpoint is deleted.
_POLL_SECONDS = 0.05

# What is left to do after the model server has answered.
Rest = Callable[[], None]


def in_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread of its own."""
    # No pool: its threads would keep the process from ending before their last invocation has.
    threading.Thread(target=work, daemon=True, name="async-invocation").start()


class AsyncQueue:
    """Requests in the order of their arrival, at most `instances x concurrency` under way.

    At zero instances requests wait until their time to live ends. When the endpoint is deleted,
    waiting requests are dropped without a trace, and so are the results of those under way.

    Args:
        work: has a model server do one request, and returns what is left to do with its answer.
            The latter no longer counts as under way: MaxConcurrentInvocationsPerInstance is "the
            maximum number of concurrent requests sent by the SageMaker client to the model
            container" (API reference of AsyncInferenceClientConfig).
        expire: reports that a request waited longer than its time to live.
        held: whether a fault keeps the whole queue waiting.
        run: runs the work on one request; a test may run it at once, in its own thread.
    """

    def __init__(
        self,
        clock: Clock,
        work: Callable[[AsyncRequest], Rest | None],
        expire: Callable[[AsyncRequest], None],
        held: Callable[[str], bool],
        run: Callable[[Callable[[], None]], None] = in_thread,
    ) -> None:
        self._run_one = run
        self._clock, self._work, self._expire, self._held = clock, work, expire, held
        # Reentrant, for `run` may do the work in the thread that polls.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[AsyncRequest] = deque()
        self._under_way: dict[tuple[str, str], int] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="async-queue")

    def start(self) -> None:
        """Begin to poll, in a thread."""
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
        """Drop what waits; what is under way ends by itself."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                self.poll()
                self._changed.wait(_POLL_SECONDS if self._waiting else None)

    def poll(self) -> None:
        """Start, expire or drop each waiting request, or leave it for the next poll."""
        with self._changed:
            self._poll()

    def _poll(self) -> None:
        left: deque[AsyncRequest] = deque()
        # Asking moto for each of a thousand requests would take longer than many a picture.
        found: dict[tuple[str, str, datetime], Endpoint | None] = {}
        for request in self._waiting:
            accepted = request.endpoint
            key = (accepted.region, accepted.name, accepted.created)
            if key not in found:
                found[key] = self.present(request)
            endpoint = found[key]
            if endpoint is None:
                continue
            if self._clock.now() - request.queued > request.ttl:
                self._run_one(partial(self._expire, request))
            elif self._has_room(endpoint):
                self._start(request)
            else:
                left.append(request)
        self._waiting = left

    def present(self, request: AsyncRequest) -> Endpoint | None:
        """Return the endpoint that took the request as it is now; None once it is deleted."""
        accepted = request.endpoint
        present = find_endpoint(accepted.name, accepted.region)
        return present if present and present.created == accepted.created else None

    def _has_room(self, endpoint: Endpoint) -> bool:
        if endpoint.asynchronous is None or self._held(endpoint.name):
            return False
        capacity = endpoint.instances * endpoint.asynchronous.concurrency
        return self._under_way.get((endpoint.region, endpoint.name), 0) < capacity

    def _start(self, request: AsyncRequest) -> None:
        key = (request.endpoint.region, request.endpoint.name)
        self._under_way[key] = self._under_way.get(key, 0) + 1
        self._run_one(partial(self._one, request, key))

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
