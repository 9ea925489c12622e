"""The noise schedule in the CPU's memory, where looking at it does not wait for the GPU.

diffusers puts the list of timesteps on the GPU, for the UNet. Its schedulers then look there which
step they are at, and each look waits until everything that was queued for the GPU is done: PNDM,
DDIM, LCM and TCD at every step, Euler and DPM++ once per picture. Here the UNet's timesteps stay on
the GPU, and the scheduler is handed the same numbers from the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

from easel.startup.quiet import without_warnings

# These call the scheduler once per timestep, in order, beginning at `begin_index` or 0.
_PIPELINES = {
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
}
# Those that compute with a single number per step, which may lie in either memory.
_SCHEDULERS = {
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
}


def keep_steps_on_the_host(pipelines: Sequence[Any]) -> str:
    """Give the pipelines such schedulers, if both are known to work so; return what was done."""
    kind: Any = type(getattr(pipelines[0], "scheduler", None))
    strange = {type(each).__name__ for each in pipelines} - _PIPELINES
    strange |= {kind.__name__} - _SCHEDULERS
    if strange:
        return f"off: not for {', '.join(sorted(strange))}"
    late = any(type(each).__name__.endswith("Img2ImgPipeline") for each in pipelines)
    if late and not hasattr(kind, "set_begin_index"):
        return f"off: {kind.__name__} cannot be told where a refiner begins"
    for pipeline in pipelines:
        with without_warnings():
            pipeline.scheduler = host_class(kind).from_config(pipeline.scheduler.config)
    return "on"


@cache
def host_class(kind: type) -> Any:
    """Return a scheduler's class that keeps its own timesteps on the CPU, under the same name."""
    methods = {"set_timesteps": _set_timesteps(kind), "step": _step(kind)}
    methods["scale_model_input"] = _scale_model_input(kind)
    if hasattr(kind, "set_begin_index"):
        methods["set_begin_index"] = _set_begin_index(kind)
    return type(kind.__name__, (kind,), methods)


# Pipelines look at the signatures of these methods to know what they take; `wraps` keeps them.


def _set_timesteps(kind: Any) -> Any:
    @wraps(kind.set_timesteps)
    def set_timesteps(
        self: Any, num_inference_steps: int | None = None, device: Any = None, **options: Any
    ) -> None:
        kind.set_timesteps(self, num_inference_steps, device="cpu", **options)
        self._host_timesteps = self.timesteps
        self._place = 0
        if device is not None:
            self.timesteps = self.timesteps.to(device)

    return set_timesteps


def _set_begin_index(kind: Any) -> Any:
    @wraps(kind.set_begin_index)
    def set_begin_index(self: Any, begin_index: int = 0) -> None:
        kind.set_begin_index(self, begin_index)
        self._place = begin_index

    return set_begin_index


def _scale_model_input(kind: Any) -> Any:
    @wraps(kind.scale_model_input)
    def scale_model_input(self: Any, sample: Any, timestep: Any = None) -> Any:  # noqa: ARG001
        with _on_host(self) as now:
            return kind.scale_model_input(self, sample, now)

    return scale_model_input


def _step(kind: Any) -> Any:
    @wraps(kind.step)
    def step(
        self: Any,
        model_output: Any,
        timestep: Any,  # noqa: ARG001 - the same number, on the pipeline's device
        *args: Any,
        **options: Any,
    ) -> Any:
        with _on_host(self) as now:
            result = kind.step(self, model_output, now, *args, **options)
        self._place += 1
        return result

    return step


@contextmanager
def _on_host(scheduler: Any) -> Iterator[Any]:
    """Show the scheduler its timesteps on the CPU, and yield the one that it is at."""
    remote, scheduler.timesteps = scheduler.timesteps, scheduler._host_timesteps
    try:
        yield scheduler._host_timesteps[scheduler._place]
    finally:
        scheduler.timesteps = remote
