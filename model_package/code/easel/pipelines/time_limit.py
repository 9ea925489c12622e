"""What happens between two steps of a run: it ends if nobody waits for it, else it is reported.

Whoever asked for the picture has left at a moment that the request states; SageMaker tells a
container nothing, and neither does its model server. A server that sees its callers itself has a
`Watch` for each.
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
from easel.pipelines.preview import Preview
from easel.pipelines.unet_swap import CALLBACK
from easel.pipelines.watch import Watch

_INPUTS = f"{CALLBACK}_tensor_inputs"


class TimeLimit:
    """A moment in seconds by `clock`, after which a run stops at its next step.

    Args:
        moment: infinity for a run that is never stopped.
        clock: never jumps.
        watch: of whoever asked for the picture, if it can be asked and told.
        steps: of the whole run, for the watch; None for those of each pipeline.
        preview: makes the pictures that the watch wants.
    """

    def __init__(
        self,
        moment: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        *,
        watch: Watch | None = None,
        steps: int | None = None,
        preview: Preview | None = None,
    ) -> None:
        self._moment = moment
        self._clock = clock
        self._watch = watch
        self._steps = steps
        self._done = 0
        self._preview = preview
        self._step_before: Any = None

    def check(self) -> None:
        """Raise TooSlow once the moment has passed, or whoever asked has left."""
        if self._watch is not None and self._watch.cancelled():
            raise TooSlow("The caller has left, so the picture was abandoned.")
        if self._clock() > self._moment:
            raise TooSlow("The picture was not finished in time, so it was abandoned.")

    def added_to(self, pipeline: Any, extra: dict[str, Any]) -> dict[str, Any]:
        """Return a call's keyword arguments with a check after each step.

        A pipeline that does not call back after its steps runs to the end.
        """
        known = CALLBACK in inspect.signature(pipeline.__call__).parameters
        if not known or (self._moment == math.inf and self._watch is None):
            return extra
        if self._watch is not None and _INPUTS in extra and "latents" not in extra[_INPUTS]:
            extra = {**extra, _INPUTS: [*extra[_INPUTS], "latents"]}
        return guidance.and_then(extra, self._after_step)

    def _after_step(
        self, pipeline: Any, _step: int, _time: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        self._keep_up(pipeline)
        if self._watch is not None:
            self._report(self._watch, pipeline, tensors)
        self.check()
        return tensors  # untouched: the picture is the same as without a limit

    def _report(self, watch: Watch, pipeline: Any, tensors: dict[str, Any]) -> None:
        self._done += 1
        # Not every pipeline has the property; the noise levels always have a length.
        levels = getattr(getattr(pipeline, "scheduler", None), "timesteps", None)
        own = getattr(pipeline, "num_timesteps", 0) or (0 if levels is None else len(levels))
        steps = int(self._steps or own or self._done)
        # Some schedulers call the denoiser more often than the request has steps.
        watch.progressed(min(self._done, steps), steps)
        if self._preview is not None and watch.wants_preview():
            pixels = self._preview.of(pipeline, tensors.get("latents"))
            if pixels is not None:
                watch.preview(pixels)

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
