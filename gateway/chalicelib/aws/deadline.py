"""The one deadline that everything done for a request shares."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

Clock = Callable[[], float]
Result = TypeVar("Result")


class DeadlinePassed(Exception):
    """The deadline passed before the work was done."""


class Deadline:
    """A moment in seconds by `clock`, which never jumps; infinity for no deadline."""

    def __init__(self, moment: float, clock: Clock = time.monotonic) -> None:
        self._moment = moment
        self._clock = clock

    @property
    def remaining(self) -> float:
        """Seconds left; negative once the moment has passed."""
        return self._moment - self._clock()

    def keep(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, or raise what it raises, unless the deadline passes first.

        A socket's timeout starts again with every byte that arrives, and a name lookup has none:
        so the work is done in a thread of its own, which is abandoned when the time is up.

        Raises:
            DeadlinePassed: if the deadline passes. The work continues, and its result is lost.
        """
        outcome: Future[Result] = Future()
        # Lambda freezes an abandoned thread and resumes it in the next invocation:
        # https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
        # A daemon does not keep `chalice local` from ending.
        threading.Thread(target=_settle, args=(outcome, work), daemon=True).start()
        # The longest wait that a lock accepts: a longer one, infinity too, overflows.
        seconds = min(max(self.remaining, 0), threading.TIMEOUT_MAX)
        if not wait([outcome], timeout=seconds).done:
            raise DeadlinePassed
        return outcome.result()


def _settle(outcome: Future[Result], work: Callable[[], Result]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
        outcome.set_exception(error)
