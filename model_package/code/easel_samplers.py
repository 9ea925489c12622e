"""The names that AUTOMATIC1111's web UI has for diffusers' schedulers.

The pairs follow the table "k-diffusion" in diffusers' own documentation of schedulers.
"""

from __future__ import annotations

from collections.abc import Mapping

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
