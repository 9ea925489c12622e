"""Guidance that ends before the last step.

With guidance, each step runs the UNet on two inputs, with and without the prompt. The last steps
add details, which hardly depend on guidance. Ending it early halves the time of those steps and
changes the image slightly, so by default all steps are guided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easel.pipelines.unet_swap import CALLBACK

# The tensors that are doubled for guidance, in the order (without the prompt, with it).
_INPUTS = {
    "StableDiffusionPipeline": ("prompt_embeds",),
    "StableDiffusionXLPipeline": ("prompt_embeds", "add_text_embeds", "add_time_ids"),
}


def cutoff(pipeline: Any, share: float) -> dict[str, Any]:
    """Return the pipeline's keyword arguments that end guidance early; empty at a share of 1.

    Args:
        pipeline: Stable Diffusion's or SDXL's; for others the result is empty.
        share: the share of the steps with guidance, above 0 and at most 1.
    """
    inputs = _INPUTS.get(type(pipeline).__name__)
    if share >= 1 or inputs is None:
        return {}

    def end_guidance(
        pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        ends = guided_steps(pipeline.num_timesteps, share)
        if step + 1 != ends or not pipeline.do_classifier_free_guidance:
            return tensors
        # As diffusers' own SDCFGCutoffCallback does: drop the half without the prompt.
        pipeline._guidance_scale = 0.0
        return {name: tensors[name][-1:] for name in inputs}

    return {
        CALLBACK: end_guidance,
        f"{CALLBACK}_tensor_inputs": list(inputs),
    }


def guided_steps(steps: int, share: float) -> int:
    """Return the number of guided steps; at least one."""
    return max(round(steps * share), 1)


def and_then(arguments: dict[str, Any], callback: Callable[..., Any]) -> dict[str, Any]:
    """Add a callback to a call's keyword arguments; it runs after the one that they may have."""
    first = arguments.get(CALLBACK)
    if first is None:
        return {**arguments, CALLBACK: callback}

    def both(pipeline: Any, step: int, time: Any, tensors: dict[str, Any]) -> Any:
        tensors = first(pipeline, step, time, tensors)
        return callback(pipeline, step, time, tensors)

    return {**arguments, CALLBACK: both}
