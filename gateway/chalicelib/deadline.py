"""The one deadline that everything done for a visitor shares."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Deadline:
    """A moment by `clock`, which never jumps; in seconds."""

    def __init__(self, moment: float, clock: Clock = time.monotonic) -> None:
        self._moment = moment
        self._clock = clock

    @property
    def remaining(self) -> float:
        """Seconds left; negative once the moment has passed."""
        return self._moment - self._clock()
