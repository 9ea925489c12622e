"""Schedulers by short names, and the names that AUTOMATIC1111's web UI has for them.

The pairs follow the table "k-diffusion" in diffusers' own documentation of schedulers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easel.startup.quiet import without_warnings

# isort: split
import diffusers

from easel.errors import ModelUnusable

# Classes with what differs from the model's own configuration. DPM++ and UniPC need 20 to 25 steps
# where PNDM and DDIM need 50; LCM, TCD and the two that end in "trailing" are for models or
# adapters that were distilled for 1 to 8 steps, and paint badly with any other.
SAMPLERS: dict[str, tuple[str, dict[str, object]]] = {
    "ddim-trailing": ("DDIMScheduler", {"timestep_spacing": "trailing"}),
    "dpm++-2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++-2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "euler-trailing": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}

_NAMES = {
    "DDIMScheduler": "DDIM",
    "DDPMScheduler": "DDPM",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "DPMSolverSinglestepScheduler": "DPM++ 2S",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "KDPM2DiscreteScheduler": "DPM2",
    "LCMScheduler": "LCM",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "TCDScheduler": "TCD",
    "UniPCMultistepScheduler": "UniPC",
}
_SCHEDULES = {
    "use_karras_sigmas": "Karras",
    "use_exponential_sigmas": "Exponential",
    "use_beta_sigmas": "Beta",
}


def sampler_name(scheduler: str, config: Mapping[str, object]) -> str:
    """Return a scheduler's A1111 name, from its class's name; its own name where there is none."""
    if str(config.get("algorithm_type", "")).startswith("sde-") and "Multistep" in scheduler:
        return "DPM++ 2M SDE"
    return _NAMES.get(scheduler, scheduler.removesuffix("Scheduler") or "unknown")


def schedule_type(config: Mapping[str, object]) -> str | None:
    """Return A1111's name for how the noise levels are spaced, if it is a special one."""
    return next((name for key, name in _SCHEDULES.items() if config.get(key)), None)


def choose(pipeline: Any, name: str) -> str:
    """Give a pipeline the scheduler of that name; return the name. `own` leaves the model's own.

    Raises:
        ModelUnusable: if the pipeline has none that could be exchanged.
    """
    if name == "own":
        return name
    kind, changes = SAMPLERS[name]
    own: Any = getattr(pipeline, "scheduler", None)
    made: Any = getattr(diffusers, kind)
    # All of these are for models with noise levels by beta; FLUX's and their like are others.
    if "beta_schedule" not in getattr(own, "config", {}):
        raise ModelUnusable(
            f"EASEL_SAMPLER is {name}, which {type(pipeline).__name__} cannot use; leave it out"
        )
    with without_warnings():
        pipeline.scheduler = made.from_config(own.config, **changes)
    return name
