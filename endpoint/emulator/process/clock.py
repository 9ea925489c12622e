"""The emulated services' clock, which a test can speed up or advance."""

from __future__ import annotations

import threading
import time


class Clock:
    """Emulated seconds: real seconds times `speed`, plus whatever was skipped.

    Every limit of the emulated SageMaker (60 s for an answer, six hours in a queue) is counted on
    this clock. A model server's own work takes real time whatever the speed.
    """

    def __init__(self, speed: float = 1.0) -> None:
        # Sleepers wait on it instead of sleeping, so that a skip or a new speed reaches them.
        self._changed = threading.Condition()
        self._set(speed, 0.0)

    def _set(self, speed: float, emulated: float) -> None:
        if not speed > 0:
            raise ValueError("a clock's speed must be above 0")
        self._speed, self._emulated, self._real = speed, emulated, time.monotonic()

    @property
    def speed(self) -> float:
        """Emulated seconds per real second."""
        return self._speed

    def run_at(self, speed: float) -> None:
        """Run at `speed` from now on, which also shortens waits; raises ValueError at 0."""
        with self._changed:
            self._set(speed, self.now())
            self._changed.notify_all()

    def skip(self, seconds: float) -> None:
        """Advance by `seconds` at once."""
        with self._changed:
            self._set(self._speed, self.now() + seconds)
            self._changed.notify_all()

    def now(self) -> float:
        """Return the emulated seconds since the clock was made."""
        # Not the wall clock, which the machine may set back.
        return self._emulated + (time.monotonic() - self._real) * self._speed

    def real(self, seconds: float) -> float:
        """Return how many real seconds `seconds` take at the present speed (for a socket)."""
        return seconds / self._speed

    def sleep(self, seconds: float) -> None:
        """Wait until `seconds` have passed on this clock."""
        until = self.now() + seconds
        with self._changed:
            while (left := until - self.now()) > 0:
                self._changed.wait(left / self._speed)
