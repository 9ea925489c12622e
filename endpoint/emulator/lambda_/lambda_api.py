"""The Lambda Runtime API for one execution environment.

`GET .../invocation/next`, `POST .../invocation/<id>/response`, `POST .../invocation/<id>/error` and
`POST .../init/error`, as the AWS documentation "Using the Lambda runtime API" has them.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from endpoint.emulator.process.http_server import QuietHandler, Server, serving

# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
_PREFIX = "/2018-06-01/runtime/"


@dataclass
class Invocation:
    """One event on its way through the runtime."""

    id: str
    event: bytes
    deadline_ms: int
    arn: str
    done: threading.Event = field(default_factory=threading.Event)
    payload: bytes = b"null"
    failed: bool = False


class RuntimeApi:
    """Hands invocations to the one runtime that asks here.

    Args:
        pause: called when the runtime has nothing to do, which is until the next event.
        resume: called before it gets one.

    Attributes:
        asked: when the runtime first asked for an event, on `time.monotonic`; its init is over.
        init_error: what the runtime reported instead.
        address: host and port, for AWS_LAMBDA_RUNTIME_API.
    """

    def __init__(
        self,
        pause: Callable[[], None] = lambda: None,
        resume: Callable[[], None] = lambda: None,
    ) -> None:
        self._pause, self._resume = pause, resume
        # A pause must not come after the resumption that the next event brings.
        self._turn = threading.Lock()
        self.asked: float | None = None
        self.init_error: dict[str, Any] | None = None
        self.address = ""
        self._next: queue.Queue[Invocation | None] = queue.Queue()
        self._current: Invocation | None = None

    @contextmanager
    def serve(self) -> Iterator[RuntimeApi]:
        """Listen on a free port of 127.0.0.1 while the context lasts."""
        with serving(_Requests, runtime_api=self) as server:
            self.address = server.url.removeprefix("http://")
            try:
                yield self
            finally:
                self._next.put(None)

    def put(self, invocation: Invocation) -> None:
        """Give the runtime its next event."""
        self._current = invocation
        with self._turn:
            self._next.put(invocation)
            self._resume()

    def take(self) -> Invocation | None:
        """Return the next event as soon as there is one; None when the API closes."""
        self.asked = self.asked or time.monotonic()
        with self._turn:
            if self._next.empty():
                self._pause()
        return self._next.get()

    def finish(self, invocation_id: str, payload: bytes, *, failed: bool) -> bool:
        """Take an event's result; returns False for one that is not under way."""
        current = self._current
        if current is None or current.id != invocation_id:
            return False
        current.payload, current.failed = payload, failed
        current.done.set()
        return True


class _Requests(QuietHandler):
    server: Server

    @property
    def api(self) -> RuntimeApi:
        api: RuntimeApi = self.server.runtime_api  # type: ignore[attr-defined]
        return api

    def do_GET(self) -> None:  # noqa: N802 - inherited name
        invocation = self.api.take() if self.path == f"{_PREFIX}invocation/next" else None
        if invocation is None:
            self.close_connection = True
            return
        headers = [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", invocation.id),
            ("Lambda-Runtime-Deadline-Ms", str(invocation.deadline_ms)),
            ("Lambda-Runtime-Invoked-Function-Arn", invocation.arn),
            ("Lambda-Runtime-Trace-Id", f"Root=1-{int(time.time()):08x}-{0:024x};Sampled=0"),
        ]
        self.answer(200, headers, invocation.event)

    def do_POST(self) -> None:  # noqa: N802 - inherited name
        body = self.body()
        what = self.path.removeprefix(_PREFIX).split("/")
        match what:
            case ["init", "error"]:
                self.api.init_error = json.loads(body)
                is_valid = True
            case ["invocation", invocation_id, ("response" | "error") as kind]:
                is_valid = self.api.finish(invocation_id, body, failed=kind == "error")
            case _:
                is_valid = False
        self.answer(202 if is_valid else 400, [("Content-Type", "application/json")], b"{}")
