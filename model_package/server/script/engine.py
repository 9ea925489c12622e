"""What generates images: a script's engine, or its `predict_fn`, one request after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from .. import log
from ..errors import failed


class Watch(Protocol):
    """The server's side of one request, which the engine reads and reports through.

    Attributes:
        deadline: when the caller leaves, by `time.monotonic`; infinity if it does not say.
    """

    deadline: float

    def cancelled(self) -> bool:
        """Whether the caller has left."""

    def progressed(self, step: int, steps: int) -> None:
        """Report that a step of this request is finished."""

    def wants_preview(self) -> bool:
        """Whether somebody looks at the picture while it is generated."""

    def preview(self, pixels: Any) -> None:
        """Show a small picture: RGB, 8 bits, shaped (height, width, 3)."""


class Engine(Protocol):
    """Generates requests, in one thread.

    Attributes:
        capacity: how many requests are generated together at most; 1: one after another.
        busy: whether there is a step to generate.
    """

    capacity: int

    @property
    def busy(self) -> bool: ...

    def check(self, request: Any) -> Exception | None:
        """Return what is wrong with a request, before it waits."""

    def fits(self, request: Any) -> bool:
        """Whether a request can be added now."""

    def seconds(self, request: Any) -> float | None:
        """Return how long a request takes alone; None if it needs no generating."""

    def add(self, request: Any, watch: Any) -> None:
        """Add a request; its errors come out of `step`."""

    def step(self) -> list[tuple[Any, Any]]:
        """Do one step; return the watches of finished requests, with their results."""

    def describe(self) -> dict[str, object]:
        """Return what /health shows."""


class SerialEngine:
    """One request after another, each in a single step.

    Nothing is known about a script's requests, so each is expected to take as long as the ones
    before it.
    """

    capacity = 1

    def __init__(
        self, predict: Callable[..., Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._predict, self._clock = predict, clock
        self._seconds = 0.0
        self._added: tuple[Any, Any] | None = None

    @property
    def busy(self) -> bool:
        return self._added is not None

    def check(self, request: Any) -> Exception | None:  # noqa: ARG002 - the script knows, later
        return None

    def fits(self, request: Any) -> bool:  # noqa: ARG002 - all are alike
        return self._added is None

    def seconds(self, request: Any) -> float | None:  # noqa: ARG002 - all are alike
        return self._seconds

    def add(self, request: Any, watch: Any) -> None:
        self._added = request, watch

    def step(self) -> list[tuple[Any, Any]]:
        if self._added is None:
            return []
        request, watch = self._added
        began = self._clock()
        try:
            result = self._predict(request, watch.context)
        except Exception as error:  # noqa: BLE001 - the script may raise anything
            log.failure("generation_failed", error)
            result = failed(error)
            # Without its frames, which hold on to the run's tensors.
            result.__cause__ = error.with_traceback(None)
        else:
            took = self._clock() - began
            self._seconds += (took - self._seconds) * (0.3 if self._seconds else 1)
        finally:
            self._added = None
        return [(watch, result)]

    def describe(self) -> dict[str, object]:
        return {"capacity": 1, "mode": "serial", "seconds": round(self._seconds, 3)}
