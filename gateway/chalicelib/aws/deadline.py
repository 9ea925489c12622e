"""The one deadline that everything done for a request shares."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar

Clock = Callable[[], float]
Result = TypeVar("Result")


# What ends a request properly, such as freeing its slot, may take this long after the deadline: the
# call to AWS is on its way by then.
_ENDING_SECONDS = 0.5


class DeadlinePassed(Exception):
    """The deadline passed before the work was done."""


class NoTimeLeft(DeadlinePassed):
    """The deadline had passed already: the work was not begun."""


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
            NoTimeLeft: if the deadline has passed already. The work is not begun.
            DeadlinePassed: if the deadline passes. The work continues, and its result is lost.
        """
        if self._moment == float("inf"):
            return work()
        if self.remaining <= 0:
            raise NoTimeLeft
        context = copy_context()
        outcome: Future[Result] = Future()
        # Lambda freezes an abandoned thread and resumes it in the next invocation:
        # https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
        # A daemon does not keep `chalice local` from ending.
        threading.Thread(
            target=_settle, args=(outcome, lambda: context.run(work)), daemon=True
        ).start()
        # The longest wait that a lock accepts.
        seconds = min(max(self.remaining, 0), threading.TIMEOUT_MAX)
        if not wait([outcome], timeout=seconds).done:
            raise DeadlinePassed
        return outcome.result()


_shared: ContextVar[Deadline] = ContextVar("deadline")


def shared() -> Deadline:
    """Return the deadline of the request that is being answered; none outside `sharing`."""
    return _shared.get(Deadline(float("inf")))


@contextmanager
def sharing(deadline: Deadline) -> Iterator[None]:
    """Have every call to AWS in this context keep `deadline`."""
    token = _shared.set(deadline)
    try:
        yield
    finally:
        _shared.reset(token)


@contextmanager
def ending() -> Iterator[None]:
    """Give what must be done at the end of a request a moment, even after the deadline."""
    seconds = max(shared().remaining, _ENDING_SECONDS)
    with sharing(Deadline(time.monotonic() + seconds)):
        yield


def _settle(outcome: Future[Result], work: Callable[[], Result]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
        outcome.set_exception(error)
