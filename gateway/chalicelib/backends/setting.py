"""The setting of a model's backend: `"vllm-omni"`, or an object with a name and its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .backend import Backend
from .easel import Easel
from .hugging_face import HuggingFace
from .jumpstart import JumpStart
from .openai_images import OpenAIImages
from .vllm_omni import VllmOmni

_BACKENDS: dict[str, type[Backend]] = {
    one.name: one for one in (Easel, HuggingFace, VllmOmni, JumpStart, OpenAIImages)
}
NAMES = tuple(_BACKENDS)
EASEL = Easel()


def read(setting: object) -> Backend:
    """Return the backend of a setting; None means Easel's own container.

    Args:
        setting: decoded JSON: a name, or an object with `name` and the backend's options.

    Raises:
        ValueError: for an unknown name, option or value; the message names it.
    """
    if setting is None:
        return EASEL
    fields = dict(setting) if isinstance(setting, Mapping) else {"name": setting}
    name = fields.pop("name", None)
    if not isinstance(name, str) or name not in _BACKENDS:
        raise ValueError(f"backend: {name!r} is none of {', '.join(NAMES)}")
    backend = _BACKENDS[name]
    for option in fields:
        if option not in backend.options:
            takes = ", ".join(backend.options) or "none"
            raise ValueError(f"backend: {option!r} is no option of {name}; its options: {takes}")
    try:
        return backend(**{option: _READERS[option](value) for option, value in fields.items()})
    except ValueError as error:
        raise ValueError(f"backend: {error}") from error


def _accepts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("accepts: must be a list of fields")
    return tuple(dict.fromkeys(value))


def _adapters(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("adapters: must be an object of names and paths")
    return dict(value)


def _accept_eula(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("accept_eula: must be true or false")
    return value


_READERS: dict[str, Callable[[object], Any]] = {
    "accepts": _accepts,
    "adapters": _adapters,
    "accept_eula": _accept_eula,
}
