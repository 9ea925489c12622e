"""The time of each step of a start, for the log."""

from __future__ import annotations

import time


class Stopwatch:
    """Adds up seconds by step, from one mark to the next.

    Args:
        steps: seconds of steps that are already finished.
    """

    def __init__(self, **steps: float) -> None:
        self._steps = dict(steps)
        self._last = time.perf_counter()

    def mark(self, step: str) -> None:
        """Add the time since the last mark to a step."""
        now = time.perf_counter()
        self._steps[step] = self._steps.get(step, 0.0) + now - self._last
        self._last = now

    @property
    def steps(self) -> dict[str, float]:
        """The seconds of each step, to the millisecond, in the order of the first marks."""
        return {step: round(seconds, 3) for step, seconds in self._steps.items()}

    @property
    def seconds(self) -> float:
        """The sum of all steps in seconds, to the millisecond."""
        return round(sum(self._steps.values()), 3)
