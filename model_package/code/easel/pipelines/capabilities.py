"""What a pipeline can be asked for, found by looking at it rather than by a list of models.

Pipelines differ: some take no guidance scale or negative prompt, some paint one size only, some
need sides that are multiples of 16 or 32 instead of the contract's 8.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

from easel.defaults import Defaults
from easel.errors import ModelUnusable
from generation import RULES, GenerationRequest, InvalidField, Number, Whole

# The contract's names on the left, diffusers' on the right.
_ARGUMENTS = {
    "negative_prompt": "negative_prompt",
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}


@dataclass(frozen=True)
class Abilities:
    """What one pipeline takes.

    Attributes:
        takes: the contract's fields that the pipeline can be given, beside the prompt and the seed.
        multiple: what width and height must be multiples of, in pixels.
        defaults: the pipeline's own values, where they can be found.
    """

    takes: frozenset[str]
    multiple: int
    defaults: Defaults

    @classmethod
    def of(cls, pipeline: Any) -> Abilities:
        """Look at a loaded pipeline.

        Raises:
            ModelUnusable: if it does not make pictures from a prompt alone.
        """
        parameters = dict(inspect.signature(pipeline.__call__).parameters)
        _check_text_to_image(type(pipeline).__name__, parameters)
        takes = frozenset(name for name, theirs in _ARGUMENTS.items() if theirs in parameters)
        return cls(takes, _multiple(pipeline), _own_defaults(pipeline, parameters, takes))

    def fit(self, request: GenerationRequest) -> GenerationRequest:
        """Return the request as this pipeline will do it, without what it does not take.

        Raises:
            InvalidField: naming `width` or `height`, if the model cannot paint that size.
        """
        for side in ("width", "height"):
            self._check_side(side, getattr(request, side))
        given = request.to_dict()
        return GenerationRequest.from_dict(
            {name: given[name] for name in given if name in self.takes or name not in _ARGUMENTS}
        )

    def arguments(self, request: GenerationRequest) -> dict[str, Any]:
        """Return the pipeline's keyword arguments for a request that `fit` returned."""
        given = {"prompt": request.prompt}
        for name, theirs in _ARGUMENTS.items():
            value = getattr(request, name)
            if name in self.takes and value is not None and value != "":
                given[theirs] = value
        return given

    @property
    def smallest(self) -> tuple[int | None, int | None]:
        """The least width and height, in pixels; None for one that cannot be chosen."""
        width, height = (
            self._least(side) if side in self.takes else None for side in ("width", "height")
        )
        return width, height

    def _least(self, side: str) -> int:
        rule = RULES[side]
        assert isinstance(rule, Whole)  # noqa: S101 - for the type checker
        return math.ceil(rule.least / self.multiple) * self.multiple

    def _check_side(self, side: str, pixels: int | None) -> None:
        if pixels is None:
            return
        if side not in self.takes:
            raise InvalidField(side, "cannot be chosen: this model paints one size")
        if pixels % self.multiple:
            raise InvalidField(side, f"must be a multiple of {self.multiple} for this model")


def _check_text_to_image(name: str, parameters: dict[str, inspect.Parameter]) -> None:
    variadic = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    needed = {
        each.name
        for each in parameters.values()
        if each.default is inspect.Parameter.empty and each.kind not in variadic
    }
    if "prompt" not in parameters or needed - {"prompt"}:
        raise ModelUnusable(f"{name} does not make pictures from a prompt alone")


def _multiple(pipeline: Any) -> int:
    """Return the multiple in pixels, by the two ways in which diffusers' pipelines state it."""
    vae = getattr(pipeline, "vae_scale_factor", 8)
    patch = getattr(pipeline, "patch_size", 1)
    processor = getattr(getattr(pipeline, "image_processor", None), "config", {})
    stated = processor.get("vae_scale_factor", 1) if hasattr(processor, "get") else 1
    return math.lcm(8, int(vae * (patch or 1)), int(stated))


def _own_defaults(
    pipeline: Any, parameters: dict[str, inspect.Parameter], takes: frozenset[str]
) -> Defaults:
    def default(name: str) -> Any:
        value = parameters[_ARGUMENTS[name]].default if name in takes else None
        return value if isinstance(value, int | float) else None

    width, height = _own_size(pipeline)
    steps, guidance = default("steps"), default("guidance_scale")
    return Defaults(
        steps=None if steps is None else int(_within(steps, "steps")),
        guidance_scale=None if guidance is None else _within(guidance, "guidance_scale"),
        width=default("width") or (width if "width" in takes else None),
        height=default("height") or (height if "height" in takes else None),
    )


def _own_size(pipeline: Any) -> tuple[int | None, int | None]:
    """Return width and height in pixels: the denoiser's sample size times the VAE's scale."""
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    sample = getattr(pipeline, "default_sample_size", None)
    sample = sample or getattr(getattr(denoiser, "config", None), "sample_size", None)
    if sample is None:
        return None, None
    sides = sample if isinstance(sample, list | tuple) else (sample, sample)
    scale = getattr(pipeline, "vae_scale_factor", 8)
    height, width = (int(_within(side * scale, "width")) for side in sides[-2:])
    return width, height


def _within(value: float, name: str) -> float:
    """Return the value, moved inside the contract's limits for that field."""
    rule = RULES[name]
    return min(max(value, rule.least), rule.most) if isinstance(rule, Whole | Number) else value
