"""The worker: the one thread that loads the model and touches the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .. import log
from ..errors import is_sticky
from ..metrics import Metrics
from ..script.engine import Engine, SerialEngine
from .waiting import Waiting

# Without an engine a picture shows no progress; SageMaker's longest invocation takes an hour.
_SERIAL_STALL_SECONDS = 3600.0
# The first picture of a new size can take much longer than the steps before it.
_STALL_SECONDS = 120.0
# Progress is missing once it takes so many times as long as ever before.
_STALL_FACTOR = 3.0


class Worker(threading.Thread):
    """Loads the engine, and then generates what waits, until the process ends.

    A daemon: Python does not wait for it at the end of the process.

    Args:
        load: returns the engine; takes minutes.
        stall_seconds: how long a step may take at least; None: what suits the engine.

    Attributes:
        engine: None until it is loaded.
        fatal: why this process cannot generate images any more, or None.
        error: what ended this thread, for the log.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        metrics: Metrics,
        *,
        stall_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(daemon=True, name="worker")
        self._load, self._metrics, self._clock = load, metrics, clock
        self._stall_seconds = stall_seconds
        self._sign = clock()
        self._longest = 0.0
        self._in_step = False
        self.engine: Engine | None = None
        self.fatal: str | None = None
        self.error: BaseException | None = None
        self.waiting = Waiting(self.estimate, self.sign, clock)

    def run(self) -> None:
        try:
            engine = self._loaded()
        except BaseException as error:  # noqa: BLE001 - a script may even call sys.exit
            log.failure("model_unusable", error)
            self.error = error
            self.fatal = "The model could not be loaded."
            return
        try:
            while self.fatal is None:
                self.turn(engine)
        except BaseException as error:  # noqa: BLE001 - else the process would live on without it
            log.failure("painter_died", error)
            self.error = error
            self.fatal = "Image generation has ended with an error."

    def _loaded(self) -> Engine:
        began = self._clock()
        engine = self._load()
        seconds = round(self._clock() - began, 3)
        log.event("server_ready", seconds=seconds, batch=engine.describe())
        self.engine = engine
        return engine

    def turn(self, engine: Engine) -> None:
        """Add what fits, and do one step; waits while there is nothing to do."""
        job = self.waiting.take(engine.fits, wait=not engine.busy)
        while job is not None:
            self._metrics.waited.observe(job.began - job.arrived)
            engine.add(job.request, job)
            job = self.waiting.take(engine.fits, wait=False)
        self._step(engine)

    def _step(self, engine: Engine) -> None:
        together = self.waiting.counts[1]
        began = self._sign = self._clock()
        self._in_step = True
        finished = engine.step()
        self.sign()
        self._in_step = False
        took = self._clock() - began
        self.waiting.pace.spent(took)
        self._metrics.steps.observe(took)
        for job, result in finished:
            self._metrics.together.observe(together)
            self.waiting.finish(job, result)
            if is_sticky(result):
                self.fatal = f"CUDA cannot be used any more: {_reason(result)}"
        if finished:
            self.waiting.revise()

    def sign(self) -> None:
        """Note that generating goes on."""
        now = self._clock()
        if self._in_step:
            self._longest = max(self._longest, now - self._sign)
        self._sign = now

    def needs_no_generation(self, request: Any) -> bool:
        """Whether a request is an error already, or asks for something else than a picture."""
        if isinstance(request, Exception) or self.engine is None:
            return True
        return self.engine.seconds(request) is None

    def checked(self, request: Any) -> Any:
        """Return a request, or the error for what the engine finds wrong with it."""
        if self.needs_no_generation(request) or self.engine is None:
            return request
        return self.engine.check(request) or request

    def estimate(self, request: Any) -> float:
        """Return how long a request is expected to take alone; 0 while nothing is known."""
        return (self.engine.seconds(request) or 0.0) if self.engine else 0.0

    @property
    def stalled(self) -> bool:
        """Whether a step takes so long that it will not end."""
        if not self._in_step:
            return False
        floor = self._stall_seconds
        if floor is None:
            serial = isinstance(self.engine, SerialEngine)
            floor = _SERIAL_STALL_SECONDS if serial else _STALL_SECONDS
        return self._clock() - self._sign > max(floor, _STALL_FACTOR * self._longest)


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).splitlines() or [""])[0]
