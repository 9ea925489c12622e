"""From arguments to an image: one pipeline, or a base that hands over to a refiner.

SDXL's base passes its latents to another pipeline. The pipeline of Stable Diffusion 1 or 2 runs to
the end and uses the refiner's UNet for its last steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import torch

from easel.pipelines import guidance
from easel.pipelines.time_limit import TimeLimit
from easel.pipelines.unet_swap import UNetSwap
from easel.prompts.embeddings import KEPT_BYTES, PromptEncoder
from easel.startup.quiet import without_warnings

_PARTS = ("unet", "transformer", "vae")  # what takes nearly all of a run's time
REFINER_START = 0.8  # SDXL's refiner was trained for the last fifth of the noise levels


class Ensemble:
    """A base and perhaps a refiner, called as one.

    Args:
        base: a text-to-image pipeline.
        refiner: an image-to-image pipeline of the same latents, or a pipeline of the base's own
            kind, of which only the UNet is used; None for none.
        start: the share of the denoising that the base does; at 1 the refiner is not used.
        guided_share: the share of the base's steps with guidance; the last ones have none.
        kept_bytes: the size of the cache of prompts' embeddings, for each pipeline.
    """

    def __init__(
        self,
        base: Any,
        refiner: Any = None,
        *,
        start: float | None = None,
        guided_share: float = 1.0,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._base = base
        self._refiner = refiner
        self._start = REFINER_START if start is None else start
        pipelines = [base] if refiner is None else [base, refiner]
        self._prompt_encoders = {
            id(pipeline): PromptEncoder.of(pipeline, kept_bytes=kept_bytes)
            for pipeline in pipelines
        }
        self._unguided = guidance.cutoff(base, guided_share)
        self._share = guided_share if self._unguided else 1.0

    def twin(self, stand_in: Callable[[str, Any], Any]) -> Ensemble:
        """Return an ensemble of the same models that can run while this one does.

        A pipeline keeps state while it runs; a twin has its own. It shares the cache of prompts.

        Args:
            stand_in: what the twin uses instead of a `unet`, `transformer` or `vae`.
        """
        twin = copy(self)
        twin._base = _twin(self._base, stand_in)
        twin._refiner = None if self._refiner is None else _twin(self._refiner, stand_in)
        pairs = ((twin._base, self._base), (twin._refiner, self._refiner))
        twin._prompt_encoders = {
            id(new): self._prompt_encoders[id(own)] for new, own in pairs if own is not None
        }
        return twin

    def handover(self, steps: int | None) -> float | None:
        """Return the share of `steps` after which the refiner takes over; None if it never does.

        With very few steps, one of the two would have none. Then the base runs alone.
        """
        return None if self._early(steps) is None else self._start

    def fewest_steps(self, steps: int) -> int:
        """Return the smallest number of steps that runs the same parts of the model as `steps`.

        A warm-up must run each UNet, with and without guidance, if `steps` does. The result is at
        least 2, the minimum of some schedulers.
        """
        work = self._work(steps)
        return next((fewer for fewer in range(2, steps) if self._work(fewer) == work), steps)

    def _work(self, steps: int) -> set[tuple[bool, bool]]:
        """Return the kinds of steps among `steps`: (uses the refiner, is guided)."""
        early = self._early(steps)
        handed_over = early is not None and type(self._refiner) is not type(self._base)
        own = early if handed_over and early is not None else steps
        guided = guidance.guided_steps(own, self._share)
        work = {(early is not None and step >= early, step < guided) for step in range(own)}
        return work | {(True, True)} if handed_over else work

    def _early(self, steps: int | None) -> int | None:
        """Return the number of steps that the base does; None if it does all of them."""
        if self._refiner is None or steps is None or self._start >= 1:
            return None
        scheduler = _fresh(self._base.scheduler)
        with without_warnings():
            scheduler.set_timesteps(steps)
        trained = scheduler.config.num_train_timesteps
        cutoff = round(trained - self._start * trained)  # as both pipelines compute it
        early = int((scheduler.timesteps >= cutoff).sum())
        return early if 0 < early < len(scheduler.timesteps) else None

    def run(
        self,
        arguments: Mapping[str, Any],
        *,
        seed: int,
        state: str,
        limit: TimeLimit | None = None,
    ) -> Any:
        """Return the last pipeline's result, with the image as a tensor on the pipeline's device.

        Args:
            arguments: the base's keyword arguments.
            seed: of the noise; the same seed gives the same image.
            state: what a prompt's embeddings depend on besides the prompt.
            limit: stops the run between two steps; None for no limit.

        Raises:
            TooSlow: if the limit stopped it.
        """
        limit = limit or TimeLimit()
        # Some schedulers draw from the global generator. The noise always comes from a generator on
        # the CPU, so that a seed gives the same image on every device.
        torch.manual_seed(seed)
        generator = torch.Generator("cpu").manual_seed(seed)
        extra: dict[str, Any] = {"generator": generator, "output_type": "pt"}
        early = self._early(arguments.get("num_inference_steps"))
        if early is None:
            return self._call(self._base, arguments, {**extra, **self._unguided}, state, limit)
        if type(self._refiner) is type(self._base):
            with UNetSwap(self._base, self._refiner.unet, early) as swap:
                extra |= guidance.and_then(self._unguided, swap)
                return self._call(self._base, arguments, extra, state, limit)
        return self._hand_over(arguments, extra, state, limit)

    def _hand_over(
        self, arguments: Mapping[str, Any], extra: dict[str, Any], state: str, limit: TimeLimit
    ) -> Any:
        """Stop the base early and continue with the refiner's pipeline from its latents."""
        early = {**extra, **self._unguided, "output_type": "latent", "denoising_end": self._start}
        latents = self._call(self._base, arguments, early, state, limit).images
        rest = {name: arguments[name] for name in arguments if name not in {"width", "height"}}
        late = {**extra, "image": latents, "denoising_start": self._start}
        return self._call(self._refiner, rest, late, state, limit)

    def _call(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any],
        extra: dict[str, Any],
        state: str,
        limit: TimeLimit,
    ) -> Any:
        scheduler = getattr(self._base, "scheduler", None)
        if scheduler is not None:
            # A scheduler keeps state, and a failed call leaves it half-way. A refiner continues the
            # base's noise levels, so it gets a copy of the base's scheduler.
            pipeline.scheduler = _fresh(scheduler)
        extra = limit.added_to(pipeline, extra)
        with without_warnings():
            return pipeline(**self._with_texts(pipeline, arguments, state), **extra)

    def _with_texts(
        self, pipeline: Any, arguments: Mapping[str, Any], state: str
    ) -> dict[str, Any]:
        """Replace the prompts by their embeddings if Easel encodes them for this pipeline."""
        rest = dict(arguments)
        prompt_encoder = self._prompt_encoders[id(pipeline)]
        if prompt_encoder is None:
            return rest
        texts = prompt_encoder.embed(
            rest.pop("prompt"),
            rest.pop("negative_prompt", None),
            guided=_is_guided(pipeline, rest.get("guidance_scale")),
            state=state,
        )
        return {**rest, **texts}


def _is_guided(pipeline: Any, scale: float | None) -> bool:
    """Whether the pipeline will use a negative prompt; the rule is that of diffusers."""
    distilled = pipeline.unet.config.time_cond_proj_dim is not None
    return (scale is None or scale > 1) and not distilled


def _twin(pipeline: Any, stand_in: Callable[[str, Any], Any]) -> Any:
    twin = copy(pipeline)
    for name in _PARTS:
        part = getattr(pipeline, name, None)
        if isinstance(part, torch.nn.Module):
            # Not by `setattr`, which would note the class in the pipeline's configuration.
            vars(twin)[name] = stand_in(name, part)
    return twin


def _fresh(scheduler: Any) -> Any:
    with without_warnings():
        return type(scheduler).from_config(scheduler.config)
