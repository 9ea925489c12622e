"""The monthly cap: whether the guard has counted as much as may be spent."""

from __future__ import annotations

import json
import time
from typing import Any

from chalicelib.aws.s3 import Store
from chalicelib.calendar_month import month_of, seconds_left
from chalicelib.errors import CapReached, StoreUnavailable

# The guard counts every five minutes.
_FRESH_SECONDS = 60.0


class Spend:
    """What the guard has counted this month, `spend/<YYYY-MM>.json`.

    Args:
        store: the part of S3 with these files; None where nothing is counted.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._read_at = -_FRESH_SECONDS
        self._month = ""
        self._counted: dict[str, Any] = {}

    def require_room(self) -> None:
        """Refuse a run if the cap is reached; at most one call to S3 in a minute.

        The guard ends the endpoints by itself, so that a file that cannot be read refuses nothing.

        Raises:
            CapReached: until the first of the next month.
        """
        counted = self.counted()
        if counted.get("state") != "reached":
            return
        message = (
            f"The monthly cap of {counted['cap_usd']:.2f} USD is reached: nothing is generated"
            " before the first of next month, unless the owner raises it."
        )
        raise CapReached(message, seconds_left(time.time()))

    def month(self) -> dict[str, Any] | None:
        """Return what the month has cost, its cap and its state; None if it is not known."""
        counted = self.counted()
        names = ("month", "usd", "cap_usd", "state")
        return {name: counted[name] for name in names} if counted else None

    def counted(self) -> dict[str, Any]:
        """Return what was counted; empty if it is not known."""
        month = month_of(time.time())
        is_fresh = time.monotonic() - self._read_at < _FRESH_SECONDS and month == self._month
        if self._store is None or is_fresh:
            return self._counted
        self._read_at, self._month = time.monotonic(), month
        try:
            stored = self._store.read(f"{month}.json")
            self._counted = json.loads(stored.body) if stored else {}
        except (StoreUnavailable, ValueError):
            self._counted = {}
        return self._counted
