"""The noise schedule in the CPU's memory, where reading it does not wait for the GPU.

diffusers puts the timesteps on the GPU, for the UNet. Its schedulers then read the current one from
there, and each read waits until the GPU has finished all queued work: PNDM, DDIM, LCM and TCD at
every step, Euler and DPM++ once for each image. Here the UNet's timesteps stay on the GPU, and the
scheduler gets the same numbers from the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

from easel.startup.quiet import without_warnings

# These call the scheduler once for each timestep, in order, from `begin_index` or 0.
_PIPELINES = {
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
}
# These compute with a single number for each step, which can be in either memory.
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
    """Replace the schedulers if all are supported; return `on`, or `off` with the reason."""
    kind: Any = type(getattr(pipelines[0], "scheduler", None))
    names = {type(pipeline).__name__ for pipeline in pipelines}
    unsupported = names - _PIPELINES | {kind.__name__} - _SCHEDULERS
    if unsupported:
        return f"off: not for {', '.join(sorted(unsupported))}"
    has_refiner = any(name.endswith("Img2ImgPipeline") for name in names)
    if has_refiner and not hasattr(kind, "set_begin_index"):
        return f"off: {kind.__name__} does not support the late start of a refiner"
    for pipeline in pipelines:
        with without_warnings():
            pipeline.scheduler = host_class(kind).from_config(pipeline.scheduler.config)
    return "on"


@cache
def host_class(kind: type) -> Any:
    """Return a subclass of a scheduler, with its name, that keeps its timesteps on the CPU."""
    methods = {"set_timesteps": _set_timesteps(kind), "step": _step(kind)}
    methods["scale_model_input"] = _scale_model_input(kind)
    if hasattr(kind, "set_begin_index"):
        methods["set_begin_index"] = _set_begin_index(kind)
    return type(kind.__name__, (kind,), methods)


# Pipelines inspect the signatures of these methods; `wraps` keeps them.


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
    """Give the scheduler its timesteps on the CPU, and yield the current one."""
    remote, scheduler.timesteps = scheduler.timesteps, scheduler._host_timesteps
    try:
        yield scheduler._host_timesteps[scheduler._place]
    finally:
        scheduler.timesteps = remote
