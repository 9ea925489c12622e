"""The fields of AUTOMATIC1111's web UI: of its API, and of its script for files of prompts.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/API

A field that would make another picture, or none, is refused. The rest is ignored: what the web UI
ignores, too, where it has nothing of that name (styles, face restorers, VAEs), and how it samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .fields import GenerationRequest, InvalidField, Number
from .prompt_tags import read_tags
from .values import read_switch, with_numbers

# The web UI's names on the left, the contract's on the right.
FIELDS = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "seed": "seed",
    "steps": "steps",
    "cfg_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}
# The values of the web UI's `samples_format`, which reads them in any case.
FORMATS = {"png": "png", "webp": "webp", "jpg": "jpeg", "jpeg": "jpeg"}
# The options of its script. Those that are not in FIELDS are ignored or refused as in its API.
# https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/scripts/prompts_from_file.py
OPTIONS = {
    *FIELDS, "batch_size", "n_iter", "sd_model", "sampler_name", "sampler_index", "styles",
    "subseed", "subseed_strength", "seed_resize_from_h", "seed_resize_from_w", "restore_faces",
    "tiling", "outpath_samples", "outpath_grids", "prompt_for_display", "do_not_save_samples",
    "do_not_save_grid",
}  # fmt: skip
_ANY_NUMBER = Number("", -1e9, 1e9)


def read_generation(data: Mapping[str, Any], file_format: str | None = None) -> GenerationRequest:
    """Return the request of the web UI's fields; `seed` -1 is random there, and unset here.

    Raises:
        InvalidField: with the web UI's name, for the first field that is wrong.
    """
    fields = {ours: data[name] for name, ours in FIELDS.items() if name in data}
    if isinstance(fields.get("prompt"), str):
        fields["prompt"], fields["lora"] = read_tags(fields["prompt"])
        if read_switch(data.get("disable_extra_networks", False), "disable_extra_networks"):
            del fields["lora"]  # the web UI removes the tags from the prompt all the same
    fields["format"] = file_format
    try:
        fields = with_numbers(fields)
        if fields.get("seed") == -1:
            del fields["seed"]
        return GenerationRequest.from_dict(fields)
    except InvalidField as error:
        raise InvalidField(their_name(error.field), error.reason) from error


def their_name(field: str) -> str:
    """Return the web UI's name of a field of the contract; an adapter is in the prompt there."""
    return {
        **{ours: name for name, ours in FIELDS.items()},
        "lora": "prompt",
        "format": "override_settings",
    }.get(field, field)


def _is_off(value: object, name: str) -> bool:
    return not read_switch(value, name)


def _is_script(value: object, _name: str) -> bool:
    """Whether a field can change the picture; scripts without arguments cannot."""
    if isinstance(value, Mapping):
        return any(
            script.get("args") if isinstance(script, Mapping) else script
            for script in value.values()
        )
    return bool(value)


def _is_positive(value: object, name: str) -> bool:
    """Whether a number is above 0; any other turns its field off."""
    try:
        return _ANY_NUMBER.clean(_ANY_NUMBER.read(value) if isinstance(value, str) else value) > 0
    except ValueError as error:
        raise InvalidField(name, "must be a number") from error


def _is_set(value: object, _name: str) -> bool:
    return value not in ("", "None", "none")  # the web UI's own words for no checkpoint


# Ignoring these would return another picture than the one that was requested.
_REFUSED: dict[str, tuple[Callable[[object, str], bool], str]] = {
    "enable_hr": (read_switch, "is not supported; set width and height instead"),
    "send_images": (_is_off, "must be true; pictures are not stored on a disk"),
    "script_name": (_is_script, "scripts are not supported"),
    "alwayson_scripts": (_is_script, "scripts are not supported"),
    "tiling": (read_switch, "is not supported"),
    "subseed_strength": (_is_positive, "variations are not supported; leave it out"),
    "seed_resize_from_w": (_is_positive, "is not supported; leave it out"),
    "seed_resize_from_h": (_is_positive, "is not supported; leave it out"),
    "refiner_checkpoint": (_is_set, "cannot be chosen; a model with a refiner uses its own"),
    "infotext": (_is_set, "is not supported; send its values as fields"),
}


def refuse(data: Mapping[str, Any]) -> None:
    """Refuse fields whose values would change the picture and are not supported.

    Raises:
        InvalidField: for the first of them.
    """
    for name, (is_requested, reason) in _REFUSED.items():
        if name in data and is_requested(data[name], name):
            raise InvalidField(name, reason)
