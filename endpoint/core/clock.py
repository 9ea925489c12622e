"""Time, passed in so that tests need not wait."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The real time."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the date and time, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Do nothing for that long."""
        time.sleep(seconds)
