"""Time, passed in so that tests do not have to wait."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The system's clock."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; never decreases."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the date and time, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`."""
        time.sleep(seconds)
