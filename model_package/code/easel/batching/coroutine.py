"""A function that can stop in the middle, whatever it is calling, and go on later.

diffusers' pipelines run to their end once they are called. A run of one in a `Coroutine` stops
wherever a part of the model is called, so that several can share the call. It has a thread of its
own, for its stack, but never runs at the same time as its caller: the two take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
Suspend = Callable[[Any], Any]


class Closed(BaseException):
    """Raised in a coroutine that is given up; no `Exception`, so that only `finally` sees it."""


class Coroutine(Generic[Result]):
    """A function's run.

    Args:
        function: gets a function that suspends it: it passes its argument to `advance`, and
            returns, or raises, what the next `advance` was given.

    Attributes:
        ended: whether there is nothing left to do.
    """

    def __init__(self, function: Callable[[Suspend], Result]) -> None:
        self._function = function
        self._own_turn, self._callers_turn = threading.Lock(), threading.Lock()
        self._own_turn.acquire()
        self._callers_turn.acquire()
        self._thread: threading.Thread | None = None
        self._said: Any = None
        self._reply: Any = None
        self._error: BaseException | None = None
        self._result: list[Result] = []
        self._failure: BaseException | None = None
        self.ended = False

    def advance(self, reply: Any = None, error: BaseException | None = None) -> Any:
        """Run the function to its next suspension; return what it passes there, None at its end.

        Args:
            reply: what the suspended call returns; of no use the first time.
            error: what it raises instead.
        """
        self._reply, self._error = reply, error
        if self._thread is None:
            # A daemon: one that waits for its turn must not keep the process alive.
            self._thread = threading.Thread(target=self._main, name="picture", daemon=True)
            self._thread.start()
        else:
            self._own_turn.release()
        self._callers_turn.acquire()
        self._reply = self._error = None
        said, self._said = self._said, None
        return said

    def result(self) -> Result:
        """Return what the function returned, or raise what it raised; only once it has ended."""
        if self._failure is not None:
            raise self._failure
        return self._result[0]

    def close(self) -> None:
        """End the function where it is suspended."""
        if self._thread is not None and not self.ended:
            self.advance(error=Closed())
        self.ended = True

    def _main(self) -> None:
        try:
            self._result.append(self._function(self._suspend))
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._failure = error
        del self._function  # which may refer to this object
        self._said, self.ended = None, True
        self._callers_turn.release()

    def _suspend(self, said: Any) -> Any:
        self._said = said
        self._callers_turn.release()
        self._own_turn.acquire()
        if self._error is not None:
            raise self._error
        return self._reply
