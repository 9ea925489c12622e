"""A refiner that is another UNet for the same pipeline, and takes its last steps over.

SDXL's pipelines can stop early and go on from latents; Stable Diffusion 1's and 2's cannot. They
call back after every step, though, and look their UNet up anew for the next one.
"""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import Any

CALLBACK = "callback_on_step_end"
_FITTING = ("in_channels", "out_channels", "cross_attention_dim")


def can_swap(pipeline: Any) -> bool:
    """Whether the UNet of such a pipeline can be exchanged between two steps."""
    return CALLBACK in inspect.signature(pipeline.__call__).parameters and hasattr(pipeline, "unet")


def misfit(base: Any, refiner: Any) -> str | None:
    """Return why the refiner's UNet cannot go on from the base's latents; None if it can."""
    for name in _FITTING:
        ours, theirs = (getattr(each.unet.config, name) for each in (base, refiner))
        if ours != theirs:
            return f"its UNet's {name} is {theirs}, the base's {ours}"
    return None


class Swap:
    """While this is entered, `unet` takes over after so many steps.

    The pipeline has its own UNet back afterwards, also after a failure.

    Args:
        pipeline: called within, with this as its `callback_on_step_end`.
        unet: for the steps that are left.
        after: how many steps the pipeline's own UNet does.
    """

    def __init__(self, pipeline: Any, unet: Any, after: int) -> None:
        self._pipeline = pipeline
        self._own = pipeline.unet
        self._unet = unet
        self._after = after

    def __enter__(self) -> Swap:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipeline.unet = self._own

    def __call__(
        self, pipeline: Any, step: int, _time: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """What the pipeline calls after each step, counted from 0."""
        if step + 1 == self._after:
            pipeline.unet = self._unet
        return tensors
