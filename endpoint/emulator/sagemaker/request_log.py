"""The requests that arrived at an emulated service, for tests that count them."""

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
    """One request.

    Attributes:
        operation: such as InvokeEndpoint.
        body: the request's body as text, or in base64 if it is not UTF-8 (`encoding` says which).
        received: seconds since 1970.
        runs: how often the request was sent to a model server, each of which is a GPU run.
        status: the HTTP status of the response; None before it, and 0 if the connection was cut.
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
            # Tests read the log as JSON, which has no bytes.
            text = base64.b64encode(body).decode("ascii")
            return cls(operation, endpoint, dict(headers), text, "base64")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class RequestLog:
    """The latest requests since the start or the last `clear`, in the order of arrival.

    Args:
        most: how many are kept, so that an emulator that runs for days does not grow.
    """

    def __init__(self, most: int = MOST_ENTRIES) -> None:
        # The server adds entries from one thread per connection.
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=most)

    def add(self, entry: Entry) -> Entry:
        with self._lock:
            self._entries.append(entry)
        return entry

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self, endpoint: str | None = None) -> None:
        """Drop one endpoint's requests, or all."""
        with self._lock:
            kept = [entry for entry in self._entries if endpoint and entry.endpoint != endpoint]
            self._entries = deque(kept, self._entries.maxlen)

    def list(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Return one endpoint's requests, or all."""
        with self._lock:
            return [
                entry.to_dict()
                for entry in self._entries
                if endpoint is None or entry.endpoint == endpoint
            ]
