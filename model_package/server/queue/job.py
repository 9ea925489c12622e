"""One accepted request, from its arrival to its response."""

from __future__ import annotations

import base64
import io
import math
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from ..script.functions import Context


class Stage(StrEnum):
    """Where a request is."""

    WAITING = "waiting"
    GENERATING = "painting"
    DONE = "done"


class Job:
    """A request, and the watch that an engine reads and reports through.

    Args:
        request: what the script read.
        context: of the script, for this request.
        deadline: when the caller leaves, by the clock; infinity if it does not say.
        deliver: takes the result, once, in whatever thread it is known.
        trace: names the request in the log and in /progress.
        clock: seconds that never jump.

    Attributes:
        seconds: how long the request is expected to take alone.
        overtaken: how many later requests began before it.
    """

    def __init__(
        self,
        request: Any,
        context: Context,
        deliver: Callable[[Any], None],
        *,
        deadline: float = math.inf,
        trace: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request, self.context, self.deadline, self.trace = request, context, deadline, trace
        self.seconds, self.overtaken = 0.0, 0
        self.step, self.steps = 0, 0
        self.stage = Stage.WAITING
        self.arrived, self.began, self.finished = clock(), math.nan, math.nan
        self.on_progress: Callable[[float], None] = lambda _share: None
        self._deliver, self._clock = deliver, clock
        self._lock = threading.Lock()
        self._left = False
        self._preview_wanted = False
        self._preview: Any = None

    # What an engine calls

    def cancelled(self) -> bool:
        return self._left

    def progressed(self, step: int, steps: int) -> None:
        before = self.share
        self.step, self.steps = step, steps
        self.on_progress(max(0.0, self.share - before))

    def wants_preview(self) -> bool:
        return self._preview_wanted

    def preview(self, pixels: Any) -> None:
        self._preview, self._preview_wanted = pixels, False

    # What the server calls

    @property
    def share(self) -> float:
        """How much of the request is generated, from 0 to 1."""
        return min(self.step / self.steps, 1.0) if self.steps else 0.0

    def begin(self) -> None:
        """Note that generating begins."""
        self.began, self.stage = self._clock(), Stage.GENERATING

    def leave(self) -> None:
        """Note that nobody waits for the result any more."""
        self._left = True

    def finish(self, result: Any) -> bool:
        """Deliver a result; return whether it is the first."""
        with self._lock:
            if self.stage is Stage.DONE:
                return False
            self.stage, self.finished = Stage.DONE, self._clock()
            # /progress remembers the request for a while, but not what it was.
            self.request = self._preview = None
        self._deliver(result)
        return True

    def show(self) -> str | None:
        """Return the latest preview as a data URL, and ask for the next one."""
        self._preview_wanted = True
        return None if self._preview is None else data_url(self._preview)


def data_url(pixels: Any) -> str:
    """Return a picture of 8-bit RGB, shaped (height, width, 3), as a data URL."""
    # Late, because a server without previews need not have it.
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
