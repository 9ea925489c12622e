"""From arguments to a picture: one pipeline, or a base that hands over to a refiner.

SDXL's base hands its latents over to another pipeline; the base of Stable Diffusion 1 or 2 keeps
them, and goes on with the refiner's UNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from easel.pipelines import guidance
from easel.pipelines.unet_swap import Swap
from easel.prompts.embeddings import KEPT_BYTES, Conditioner
from easel.startup.quiet import without_warnings

REFINER_START = 0.8  # what SDXL's makers trained the refiner for: the last fifth


class Ensemble:
    """A base and perhaps a refiner, called as one.

    Args:
        base: a text-to-image pipeline.
        refiner: an image-to-image pipeline of the same latents, or a pipeline of the base's own
            kind for the sake of its UNet; None for none.
        start: the share of the denoising that the base does; at 1 it does everything.
        guided_share: the share of the base's steps with guidance; below 1 the last go without.
        kept_bytes: of prompts' embeddings that are kept, for each of the two.
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
        self._conditioners = {
            id(each): Conditioner.of(each, kept_bytes=kept_bytes) for each in pipelines
        }
        self._unguided = guidance.cutoff(base, guided_share)
        self._share = guided_share if self._unguided else 1.0

    def handover(self, steps: int | None) -> float | None:
        """Return where the refiner takes over; None if the base does all of so many steps.

        Steps are counted in total. With very few, one of the two would have none: then the base,
        which can do without the other, paints alone.
        """
        return None if self._early(steps) is None else self._start

    def fewest_steps(self, steps: int) -> int:
        """Return the fewest, from 2 on, that need the same of the model as so many steps do.

        That is what to warm up with: each UNet, and it with and without guidance, as far as so many
        steps come to that. 2 is the least that every scheduler can do.
        """
        wanted = self._work(steps)
        return next((fewer for fewer in range(2, steps) if self._work(fewer) == wanted), steps)

    def _work(self, steps: int) -> set[tuple[bool, bool]]:
        """Return what so many steps have: each whether the refiner works, and whether guided."""
        early = self._early(steps)
        handed_over = early is not None and type(self._refiner) is not type(self._base)
        own = early if handed_over and early is not None else steps
        guided = guidance.guided_steps(own, self._share)
        work = {(early is not None and step >= early, step < guided) for step in range(own)}
        return work | {(True, True)} if handed_over else work

    def _early(self, steps: int | None) -> int | None:
        """Return how many of the steps the base does; None if it does all of them."""
        if self._refiner is None or steps is None or self._start >= 1:
            return None
        scheduler = _fresh(self._base.scheduler)
        with without_warnings():
            scheduler.set_timesteps(steps)
        trained = scheduler.config.num_train_timesteps
        cutoff = round(trained - self._start * trained)  # as both pipelines compute it
        early = int((scheduler.timesteps >= cutoff).sum())
        return early if 0 < early < len(scheduler.timesteps) else None

    def run(self, arguments: Mapping[str, Any], *, seed: int, state: str) -> Any:
        """Return the last pipeline's result, with the image as a tensor on the pipeline's device.

        Args:
            arguments: the base's keyword arguments.
            seed: of the noise; the same gives the same picture.
            state: what the text encoders' numbers depend on beside the prompt.
        """
        # Some schedulers draw from the global generator; the noise comes from a CPU's on any
        # device, so that a seed means the same picture on each.
        torch.manual_seed(seed)
        generator = torch.Generator("cpu").manual_seed(seed)
        extra: dict[str, Any] = {"generator": generator, "output_type": "pt"}
        early = self._early(arguments.get("num_inference_steps"))
        if early is None:
            return self._call(self._base, arguments, {**extra, **self._unguided}, state)
        if type(self._refiner) is type(self._base):
            with Swap(self._base, self._refiner.unet, early) as swap:
                extra |= guidance.and_then(self._unguided, swap)
                return self._call(self._base, arguments, extra, state)
        return self._hand_over(arguments, extra, state)

    def _hand_over(self, arguments: Mapping[str, Any], extra: dict[str, Any], state: str) -> Any:
        """Let the base stop early, and the refiner's pipeline go on from its latents."""
        early = {**extra, **self._unguided, "output_type": "latent", "denoising_end": self._start}
        latents = self._call(self._base, arguments, early, state).images
        rest = {name: arguments[name] for name in arguments if name not in {"width", "height"}}
        late = {**extra, "image": latents, "denoising_start": self._start}
        return self._call(self._refiner, rest, late, state)

    def _call(
        self, pipeline: Any, arguments: Mapping[str, Any], extra: dict[str, Any], state: str
    ) -> Any:
        scheduler = getattr(self._base, "scheduler", None)
        if scheduler is not None:
            # What a picture that broke off left behind must not reach the next one; and a refiner
            # goes on where the base's noise levels end, so it follows the base's scheduler.
            pipeline.scheduler = _fresh(scheduler)
        with without_warnings():
            return pipeline(**self._with_texts(pipeline, arguments, state), **extra)

    def _with_texts(
        self, pipeline: Any, arguments: Mapping[str, Any], state: str
    ) -> dict[str, Any]:
        """Replace the prompts by their embeddings where that is ours to do."""
        rest = dict(arguments)
        conditioner = self._conditioners[id(pipeline)]
        if conditioner is None:
            return rest
        texts = conditioner.embed(
            rest.pop("prompt"),
            rest.pop("negative_prompt", None),
            guided=_is_guided(pipeline, rest.get("guidance_scale")),
            state=state,
        )
        return {**rest, **texts}


def _is_guided(pipeline: Any, scale: float | None) -> bool:
    """Whether the pipeline will use a negative prompt; the rule is diffusers' own."""
    distilled = pipeline.unet.config.time_cond_proj_dim is not None
    return (scale is None or scale > 1) and not distilled


def _fresh(scheduler: Any) -> Any:
    with without_warnings():
        return type(scheduler).from_config(scheduler.config)
