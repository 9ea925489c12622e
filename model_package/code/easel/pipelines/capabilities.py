"""What a pipeline accepts, read from the pipeline itself instead of a list of models.

Pipelines differ: some take no guidance scale or negative prompt, some generate one size only, some
need sides that are multiples of 16 or 32 instead of the request's 8, some schedulers can do 50
steps at most.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from easel.defaults import Defaults
from easel.errors import ModelUnusable
from easel.pipelines.schedulers import steps_of
from generation import RULES, GenerationRequest, InvalidField, Number, Rule, Whole

# Names of a request's fields and of diffusers' arguments.
_ARGUMENTS = {
    "negative_prompt": "negative_prompt",
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}


@dataclass(frozen=True)
class Capabilities:
    """What one pipeline accepts.

    Attributes:
        takes: the request's fields that the pipeline accepts besides the prompt and the seed.
        multiple: width and height must be multiples of it, in pixels.
        rules: of the fields whose limits are narrower than a request's.
        defaults: the pipeline's own values, as far as it states them.
    """

    takes: frozenset[str]
    multiple: int
    rules: Mapping[str, Whole]
    defaults: Defaults

    @classmethod
    def of(cls, pipeline: Any) -> Capabilities:
        """Read the capabilities of a loaded pipeline.

        Raises:
            ModelUnusable: if it does not generate images from a prompt alone.
        """
        parameters = dict(inspect.signature(pipeline.__call__).parameters)
        _check_text_to_image(type(pipeline).__name__, parameters)
        takes = frozenset(name for name, argument in _ARGUMENTS.items() if argument in parameters)
        multiple = _multiple(pipeline)
        rules = _rules(pipeline, takes, multiple)
        defaults = _own_defaults(pipeline, parameters, takes, rules)
        return cls(takes, multiple, rules, defaults)

    @property
    def limits(self) -> dict[str, dict[str, Any]]:
        """What differs from the limits of a request, by field, as JSON Schema."""
        return {
            name: dict(rule.describe().items() - RULES[name].describe().items())
            for name, rule in self.rules.items()
        }

    def fit(self, request: GenerationRequest) -> GenerationRequest:
        """Return the request without the fields that the pipeline does not accept.

        Raises:
            InvalidField: naming the field that the model does not support with this value.
        """
        for side in ("width", "height"):
            if side not in self.takes and getattr(request, side) is not None:
                raise InvalidField(side, "cannot be chosen: this model generates one size")
        for name, rule in self.rules.items():
            _check(name, rule, getattr(request, name))
        kept = {
            name: value
            for name, value in request.to_dict().items()
            if name in self.takes or name not in _ARGUMENTS
        }
        return GenerationRequest.from_dict(kept)

    def arguments(self, request: GenerationRequest) -> dict[str, Any]:
        """Return the pipeline's keyword arguments for a request that `fit` returned."""
        arguments = {"prompt": request.prompt}
        for name, argument in _ARGUMENTS.items():
            value = getattr(request, name)
            # diffusers raises TypeError for an unknown argument, and encodes even an empty text.
            if name in self.takes and value is not None and value != "":
                arguments[argument] = value
        return arguments

    @property
    def fewest_steps(self) -> int:
        """The smallest number of steps."""
        return self.rules["steps"].least if "steps" in self.rules else 1

    @property
    def smallest(self) -> tuple[int | None, int | None]:
        """The smallest width and height, in pixels; None for one that cannot be chosen."""
        width, height = (
            self._least(side) if side in self.takes else None for side in ("width", "height")
        )
        return width, height

    def _least(self, side: str) -> int:
        rule = self.rules.get(side, RULES[side])
        assert isinstance(rule, Whole)  # noqa: S101 - for the type checker
        return math.ceil(rule.least / self.multiple) * self.multiple


def _check(name: str, rule: Whole, value: int | None) -> None:
    if value is None:
        return
    try:
        rule.clean(value)
    except ValueError as error:
        raise InvalidField(name, f"{error} for this model") from error


def _check_text_to_image(name: str, parameters: dict[str, inspect.Parameter]) -> None:
    variadic = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    required = {
        parameter.name
        for parameter in parameters.values()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variadic
    }
    if "prompt" not in parameters or required - {"prompt"}:
        raise ModelUnusable(f"{name} does not generate images from a prompt alone")


def _multiple(pipeline: Any) -> int:
    """Return the multiple in pixels from the two places where diffusers' pipelines state it."""
    vae = getattr(pipeline, "vae_scale_factor", 8)
    patch = getattr(pipeline, "patch_size", 1)
    processor = getattr(getattr(pipeline, "image_processor", None), "config", {})
    stated = processor.get("vae_scale_factor", 1) if hasattr(processor, "get") else 1
    # 8 is the rule for every request.
    return math.lcm(8, int(vae * (patch or 1)), int(stated))


def _rules(pipeline: Any, takes: frozenset[str], multiple: int) -> dict[str, Whole]:
    """Return the rules that are narrower than those of a request."""
    scheduler = getattr(pipeline, "scheduler", None)
    rules = {name: rule for name, rule in RULES.items() if isinstance(rule, Whole)}
    if scheduler is not None and "steps" in takes:
        fewest, most = steps_of(scheduler)
        rules["steps"] = replace(rules["steps"], least=fewest, most=most)
    for side in ("width", "height"):
        if side in takes:
            rules[side] = replace(rules[side], step=multiple)
    for side, pixels in zip(("width", "height"), _static_size(pipeline), strict=False):
        rules[side] = replace(rules[side], least=pixels, most=pixels)
    return {name: rule for name, rule in rules.items() if rule != RULES[name]}


def _static_size(pipeline: Any) -> tuple[int, ...]:
    """Return width and height in pixels of a model that is compiled for one size, else nothing."""
    size: tuple[int, ...] = getattr(pipeline, "static_size", None) or ()
    return size


def _own_defaults(
    pipeline: Any,
    parameters: dict[str, inspect.Parameter],
    takes: frozenset[str],
    rules: Mapping[str, Whole],
) -> Defaults:
    def default(name: str) -> Any:
        value = parameters[_ARGUMENTS[name]].default if name in takes else None
        return value if isinstance(value, int | float) else None

    # A signature's default of None for a side means the denoiser's own size.
    width, height = _own_size(pipeline)
    steps, guidance = default("steps"), default("guidance_scale")
    return Defaults(
        steps=None if steps is None else int(_within(steps, rules.get("steps", RULES["steps"]))),
        guidance_scale=None if guidance is None else _within(guidance, RULES["guidance_scale"]),
        width=default("width") or (width if "width" in takes else None),
        height=default("height") or (height if "height" in takes else None),
    )


def _own_size(pipeline: Any) -> tuple[int | None, int | None]:
    """Return width and height in pixels: the denoiser's sample size times the VAE's scale."""
    if static := _static_size(pipeline):
        width, height = static
        return width, height
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    sample = getattr(pipeline, "default_sample_size", None)
    sample = sample or getattr(getattr(denoiser, "config", None), "sample_size", None)
    if sample is None:
        return None, None
    sides = sample if isinstance(sample, list | tuple) else (sample, sample)
    scale = getattr(pipeline, "vae_scale_factor", 8)
    height, width = (int(_within(side * scale, RULES["width"])) for side in sides[-2:])
    return width, height


def _within(value: float, rule: Rule) -> float:
    """Return the value, moved inside the limits of a rule."""
    # Some pipelines' own defaults would be refused in a request.
    return min(max(value, rule.least), rule.most) if isinstance(rule, Whole | Number) else value
