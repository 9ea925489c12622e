"""The end of a run that nobody waits for any more: between two of its steps.

Whoever asked for the picture has left at a moment that the request states; SageMaker tells a
container nothing, and neither does its model server.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import torch

from easel.errors import TooSlow
from easel.pipelines import guidance
from easel.pipelines.unet_swap import CALLBACK


class TimeLimit:
    """A moment in seconds by `clock`, after which a run stops at its next step.

    Args:
        moment: infinity for a run that is never stopped.
        clock: never jumps.
    """

    def __init__(
        self, moment: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._moment = moment
        self._clock = clock
        self._step_before: Any = None

    def check(self) -> None:
        """Raise TooSlow once the moment has passed."""
        if self._clock() > self._moment:
            raise TooSlow("The picture was not finished in time, so it was abandoned.")

    def added_to(self, pipeline: Any, extra: dict[str, Any]) -> dict[str, Any]:
        """Return a call's keyword arguments with a check after each step.

        A pipeline that does not call back after its steps runs to the end.
        """
        known = CALLBACK in inspect.signature(pipeline.__call__).parameters
        return guidance.and_then(extra, self._after_step) if known and self._ends else extra

    @property
    def _ends(self) -> bool:
        return self._moment < math.inf

    def _after_step(
        self, pipeline: Any, _step: int, _time: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        self._keep_up(pipeline)
        self.check()
        return tensors  # untouched: the picture is the same as without a limit

    def _keep_up(self, pipeline: Any) -> None:
        """Wait until a GPU has finished the step before this one.

        Steps are queued faster than a GPU does them: without this, all could be queued in time.
        One step stays queued, so that the GPU never waits.
        """
        if getattr(getattr(pipeline, "device", None), "type", None) != "cuda":
            return
        if self._step_before is not None:
            self._step_before.synchronize()
        self._step_before = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._step_before.record()
