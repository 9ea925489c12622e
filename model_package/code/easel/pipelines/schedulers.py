"""Schedulers by short names, and their names in AUTOMATIC1111's web UI.

The pairs follow the table "k-diffusion" in diffusers' own documentation of schedulers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easel.startup.quiet import without_warnings

# isort: split
import diffusers

from easel.errors import ModelUnusable
from generation import RULES, Whole

# Classes, and changes to the model's own configuration. DPM++ and UniPC need 20 to 25 steps where
# PNDM and DDIM need 50. LCM, TCD and the two "trailing" ones are for models or adapters that were
# distilled for 1 to 8 steps; with other models the images are bad.
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

_MOST_TRIES = 10  # steps; no scheduler is known that needs more than four

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
    """Return a scheduler's A1111 name; the class's own name if A1111 has none."""
    if str(config.get("algorithm_type", "")).startswith("sde-") and "Multistep" in scheduler:
        return "DPM++ 2M SDE"
    return _NAMES.get(scheduler, scheduler.removesuffix("Scheduler") or "unknown")


def schedule_type(config: Mapping[str, object]) -> str | None:
    """Return A1111's name for the spacing of the noise levels; None for the usual one."""
    return next((name for key, name in _SCHEDULES.items() if config.get(key)), None)


def steps_of(scheduler: Any) -> tuple[int, int]:
    """Return the smallest and the largest number of steps that a scheduler accepts, of 1 to 100.

    LCM and TCD have a limit in their configuration, 50 as a rule, and PNDM needs four steps with
    Runge-Kutta. No attribute states it for all of them, so they are tried from both ends.
    """
    rule = RULES["steps"]
    assert isinstance(rule, Whole)  # noqa: S101 - for the type checker
    numbers = range(rule.least, rule.most + 1)
    fewest = next((number for number in numbers[:_MOST_TRIES] if _accepts(scheduler, number)), None)
    # Others need more than a number of steps, such as FLUX's, whose noise depends on the size.
    if fewest is None:
        return rule.least, rule.most
    return fewest, next(number for number in reversed(numbers) if _accepts(scheduler, number))


def _accepts(scheduler: Any, steps: int) -> bool:
    try:
        with without_warnings():
            type(scheduler).from_config(scheduler.config).set_timesteps(steps)
    except Exception:  # noqa: BLE001 - ValueError of diffusers, and what its arithmetic raises
        return False
    return True


def choose(pipeline: Any, name: str) -> str:
    """Set a pipeline's scheduler by name and return the name; `own` keeps the model's own.

    Raises:
        ModelUnusable: if the pipeline's scheduler cannot be replaced.
    """
    if name == "own":
        return name
    kind, changes = SAMPLERS[name]
    own: Any = getattr(pipeline, "scheduler", None)
    scheduler_class: Any = getattr(diffusers, kind)
    # All of SAMPLERS compute noise levels from betas; flow-matching models such as FLUX have none.
    if "beta_schedule" not in getattr(own, "config", {}):
        raise ModelUnusable(
            f"EASEL_SAMPLER is {name}, which {type(pipeline).__name__} does not support; unset it"
        )
    with without_warnings():
        pipeline.scheduler = scheduler_class.from_config(own.config, **changes)
    return name
