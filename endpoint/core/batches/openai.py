"""The fields of OpenAI's Images API, and those of the contract that it accepts next to them.

https://platform.openai.com/docs/api-reference/images/create
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, cast

from .fields import RULES, GenerationRequest, InvalidField, Rule, Whole
from .prompt_tags import apply_tags
from .values import read_switch, with_numbers

# The factor for the model's own number of steps. OpenAI's qualities set how much computing a
# picture takes; with a diffusion model that is the number of steps.
QUALITIES = {
    "auto": 1.0,
    "standard": 1.0,
    "low": 0.5,
    "medium": 1.0,
    "high": 1.5,
    "hd": 1.5,
    "xhigh": 2.0,
    "max": 2.0,
}
# Fields of OpenAI's that mean nothing to a diffusion model are accepted and ignored; and so are
# those of LobeHub, which sends a model's settings to any server.
IGNORED = {
    "background", "complexity", "frame_count", "frame_duration_ms", "moderation",
    "output_compression", "partial_images", "safety_identifier", "style", "svg", "user",
    "aspectRatio", "promptExtend", "resolution", "samplerName", "scheduler", "strength",
    "thinkingLevel", "watermark", "webSearch",
}  # fmt: skip
_OWN = {"model", "n", "size", "quality", "response_format", "output_format", "stream"}
_CONTRACT = set(RULES) - {"model", "format"}
_ALIASES = {"cfg": "guidance_scale"}
# A model that was distilled to this many steps or fewer makes worse pictures with any other number.
_FEW_STEPS = 10
_STEPS = cast(Whole, RULES["steps"])
_STEP = cast(Whole, RULES["width"]).step
# Sizes of OpenAI's own models that are beyond the contract; clients offer them in a list.
_LARGER = {
    *((1792, 1024), (1024, 1792)),
    *((2048, 2048), (2048, 1152), (1152, 2048), (3840, 2160), (2160, 3840)),
}
_LONGEST_SIDE = RULES["width"].describe()["maximum"]
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def check_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without those that are null, with the contract's names for aliases.

    Raises:
        InvalidField: for a field that is unknown, or whose value is not supported.
    """
    data = {name: value for name, value in data.items() if value is not None}
    for name in data:
        if name not in {*_CONTRACT, *_OWN, *IGNORED, *_ALIASES}:
            raise InvalidField(name, "is not a field")
    if read_switch(data.get("stream", False), "stream"):
        raise InvalidField("stream", "is not supported; leave it out")
    if data.get("background") == "transparent":
        raise InvalidField("background", "must be auto or opaque; no model paints transparent"
                           " pictures")  # fmt: skip
    for alias, name in _ALIASES.items():
        if alias in data and name in data:
            raise InvalidField(alias, f"is the same as {name}; send one of them")
    return {_ALIASES.get(name, name): value for name, value in data.items()}


def side_step(rules: Mapping[str, Rule]) -> int:
    """Return the pixels of which a model's sides are a multiple.

    Args:
        rules: of the fields whose limits are narrower for the model than the contract's.
    """
    sides = [rules.get(side) for side in ("width", "height")]
    return math.lcm(_STEP, *(side.step for side in sides if isinstance(side, Whole)))


def read_generation(data: Mapping[str, Any], step: int = _STEP) -> GenerationRequest:
    """Return the request of fields that `check_fields` has returned, tags of the prompt applied.

    Args:
        data: the fields.
        step: `side_step` of the model, for sizes that are beyond the contract.

    Raises:
        InvalidField: for the first field that is wrong.
    """
    fields: dict[str, Any] = {name: data[name] for name in _CONTRACT & set(data)}
    sides = _sides(data.get("size", "auto"), step)
    if sides and {"width", "height"} & set(fields):
        raise InvalidField("size", "is width and height; send either")
    fields |= sides
    if "output_format" in data:
        fields["format"] = choice(data, "output_format", ("png", "webp", "jpeg"))
    model = data.get("model", "")
    if not isinstance(model, str):
        raise InvalidField("model", "must be text")
    if _is_name(model):
        fields["model"] = model
    try:
        request = GenerationRequest.from_dict(with_numbers(fields))
    except InvalidField as error:
        raise InvalidField(their_name(error.field, data), error.reason) from error
    return apply_tags(request)


def their_name(field: str, data: Mapping[str, Any]) -> str:
    """Return the field of the call that a field of the contract came from."""
    if field == "format":
        return "output_format"
    return "size" if field in {"width", "height"} and "size" in data else field


def steps_of(quality: str, own: int | None, rule: Whole | None = None) -> int | None:
    """Return the number of steps of a quality; None where it leaves them to the model.

    Args:
        quality: one of QUALITIES.
        own: the model's own number of steps, if it is known.
        rule: the model's limits; the contract's by default.
    """
    factor, rule = QUALITIES[quality], rule or _STEPS
    if own is None or own <= _FEW_STEPS or factor == 1:
        return None
    return max(min(round(own * factor), rule.most), rule.least)


def choice(data: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """Return a field's value, by default the first choice; raises InvalidField for any other."""
    value = data.get(name, choices[0])
    if value not in choices:
        raise InvalidField(name, f"must be one of {', '.join(choices)}")
    return str(value)


def _is_name(model: str) -> bool:
    try:
        RULES["model"].clean(model)
    except ValueError:
        return False
    return True


def _nearest(width: int, height: int, step: int) -> tuple[int, int]:
    """Return the largest sides of the same shape that the contract has, in steps of pixels."""
    shape = math.gcd(width, height)
    width, height = width // shape, height // shape
    longest = _LONGEST_SIDE // max(width, height)
    steps = math.lcm(math.lcm(step, width) // width, math.lcm(step, height) // height)
    factor = longest // steps * steps
    return width * factor, height * factor


def _sides(size: object, step: int) -> dict[str, int]:
    if size == "auto":
        return {}
    sides = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if sides is None:
        raise InvalidField("size", "must be auto or WIDTHxHEIGHT, such as 512x512")
    width, height = int(sides[1]), int(sides[2])
    if (width, height) in _LARGER:
        width, height = _nearest(width, height, step)
    return {"width": width, "height": height}
