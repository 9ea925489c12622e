"""A refiner that is a second UNet for the same pipeline and runs its last steps.

SDXL's pipelines can stop early and continue from latents; those of Stable Diffusion 1 and 2 cannot.
But they call back after every step and read their `unet` attribute again for the next one.
"""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import Any

CALLBACK = "callback_on_step_end"
# Both UNets get the same latents and the same embeddings.
_MUST_MATCH = ("in_channels", "out_channels", "cross_attention_dim")


def can_swap(pipeline: Any) -> bool:
    """Whether a pipeline's UNet can be exchanged between two steps."""
    return CALLBACK in inspect.signature(pipeline.__call__).parameters and hasattr(pipeline, "unet")


def misfit(base: Any, refiner: Any) -> str | None:
    """Return why the refiner's UNet cannot continue the base's latents; None if it can."""
    for name in _MUST_MATCH:
        expected, actual = (getattr(part.unet.config, name) for part in (base, refiner))
        if expected != actual:
            return f"its UNet's {name} is {actual}, the base's {expected}"
    return None


class UNetSwap:
    """A context in which `unet` replaces the pipeline's own UNet after some steps.

    Leaving the context restores the pipeline's own UNet, also after a failure.

    Args:
        pipeline: to be called in the context, with this object as its `callback_on_step_end`.
        unet: for the remaining steps.
        after: the number of steps of the pipeline's own UNet.
    """

    def __init__(self, pipeline: Any, unet: Any, after: int) -> None:
        self._pipeline = pipeline
        self._own = pipeline.unet  # before the swap: `pipeline.unet` changes during the call
        self._unet = unet
        self._after = after

    def __enter__(self) -> UNetSwap:
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
        """Called by the pipeline after each step, counted from 0."""
        if step + 1 == self._after:
            pipeline.unet = self._unet
        return tensors
