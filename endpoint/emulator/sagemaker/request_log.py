"""What arrived at the emulated SageMaker Runtime, for tests that prove what did and did not."""

from __future__ import annotations

import base64
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MOST_ENTRIES = 1_000


@dataclass
class Entry:
    """One invocation.

    Attributes:
        operation: InvokeEndpoint or InvokeEndpointAsync.
        body: the request's body as text, or in base64 if it is not UTF-8 (`encoding` says which).
        received: seconds since 1970.
        runs: how often the request was handed to a model server; a GPU run each.
        status: the HTTP status that was answered; None while there is none, and 0 when the
            connection was cut.
    """

    operation: str
    endpoint: str
    headers: dict[str, str]
    body: str
    encoding: str = "utf-8"
    received: float = field(default_factory=time.time)
    runs: int = 0
    status: int | None = None

    @classmethod
    def of(cls, operation: str, endpoint: str, headers: Mapping[str, str], body: bytes) -> Entry:
        """Return the entry for a request that has just arrived."""
        try:
            return cls(operation, endpoint, dict(headers), body.decode("utf-8"))
        except UnicodeDecodeError:
            text = base64.b64encode(body).decode("ascii")
            return cls(operation, endpoint, dict(headers), text, "base64")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class RequestLog:
    """The latest invocations since the start or the last `clear`, in the order of arrival.

    Args:
        most: how many are kept, so that an emulator that runs for days does not grow.
    """

    def __init__(self, most: int = MOST_ENTRIES) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=most)

    def add(self, entry: Entry) -> Entry:
        with self._lock:
            self._entries.append(entry)
        return entry

    def clear(self, endpoint: str | None = None) -> None:
        """Forget one endpoint's invocations, or all."""
        with self._lock:
            left = [entry for entry in self._entries if endpoint and entry.endpoint != endpoint]
            self._entries = deque(left, self._entries.maxlen)

    def list(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Return one endpoint's invocations, or all."""
        with self._lock:
            return [
                entry.to_dict()
                for entry in self._entries
                if endpoint is None or entry.endpoint == endpoint
            ]
