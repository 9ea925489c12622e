"""Guidance that ends before the last step.

With guidance, each step runs the UNet on two inputs, with and without the prompt. The last steps
draw details, which hardly depend on it. Leaving it out there halves their time, and changes the
picture a little: by default no step goes without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easel.pipelines.unet_swap import CALLBACK

# What the pipelines have two of, in the order "without, with".
_INPUTS = {
    "StableDiffusionPipeline": ("prompt_embeds",),
    "StableDiffusionXLPipeline": ("prompt_embeds", "add_text_embeds", "add_time_ids"),
}


def cutoff(pipeline: Any, share: float) -> dict[str, Any]:
    """Return the pipeline's keyword arguments that end guidance; none if it is not to end.

    Args:
        pipeline: Stable Diffusion's or SDXL's; others are left alone.
        share: of the steps that are done with guidance, above 0 and at most 1.
    """
    inputs = _INPUTS.get(type(pipeline).__name__)
    if share >= 1 or inputs is None:
        return {}

    def end_guidance(
        pipeline: Any, step: int, _timestep: Any, given: dict[str, Any]
    ) -> dict[str, Any]:
        ends = guided_steps(pipeline.num_timesteps, share)
        if step + 1 != ends or not pipeline.do_classifier_free_guidance:
            return given
        # As diffusers' own SDCFGCutoffCallback does.
        pipeline._guidance_scale = 0.0
        return {name: given[name][-1:] for name in inputs}

    return {
        CALLBACK: end_guidance,
        f"{CALLBACK}_tensor_inputs": list(inputs),
    }


def guided_steps(steps: int, share: float) -> int:
    """Return how many of so many steps are done with guidance; one at least."""
    return max(round(steps * share), 1)


def and_then(unguided: dict[str, Any], callback: Callable[..., Any]) -> dict[str, Any]:
    """Return what `cutoff` returned, with another callback after each of its own."""
    if not unguided:
        return {CALLBACK: callback}

    def both(pipeline: Any, step: int, time: Any, given: dict[str, Any]) -> Any:
        return callback(pipeline, step, time, unguided[CALLBACK](pipeline, step, time, given))

    return {**unguided, CALLBACK: both}
