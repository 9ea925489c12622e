"""The one deadline that everything done for a visitor shares."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

Clock = Callable[[], float]
Result = TypeVar("Result")


class DeadlinePassed(Exception):
    """The moment came before the work was done."""


class Deadline:
    """A moment by `clock`, which never jumps; in seconds."""

    def __init__(self, moment: float, clock: Clock = time.monotonic) -> None:
        self._moment = moment
        self._clock = clock

    @property
    def remaining(self) -> float:
        """Seconds left; negative once the moment has passed."""
        return self._moment - self._clock()

    def keep(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, or raise what it raises, unless the moment comes first.

        A socket's timeout starts anew with every byte that arrives, and looking up a name has
        none: so the work is done in a thread of its own, and left to itself when time is up.

        Raises:
            DeadlinePassed: when the moment has come. The work goes on, and nobody hears of it.
        """
        outcome: Future[Result] = Future()
        threading.Thread(target=_settle, args=(outcome, work), daemon=True).start()
        if not wait([outcome], timeout=max(self.remaining, 0)).done:
            raise DeadlinePassed
        return outcome.result()


def _settle(outcome: Future[Result], work: Callable[[], Result]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 (handed on to the thread that waits)
        outcome.set_exception(error)
