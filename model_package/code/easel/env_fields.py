"""Settings as dataclasses whose fields name the environment variable that they are read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from easel.errors import SettingInvalid


def variable(
    name: str, cast: Callable[[str], object], set_by: str, *, example: str
) -> dict[str, Any]:
    """Return a field's metadata: its variable, how to read it, who normally sets it, an example."""
    return {"name": name, "cast": cast, "set_by": set_by, "example": example}


def text(given: str) -> str:
    """Read any text."""
    return given


def switch(given: str) -> bool:
    """Read on or off."""
    if given.lower() not in {"on", "off"}:
        raise ValueError("must be on or off")
    return given.lower() == "on"


def one_of(*choices: str) -> Callable[[str], str]:
    """Return what reads one of some words."""

    def read(given: str) -> str:
        if given not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return given

    return read


def read_variables(kind: Any, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields' values that the environment has; an empty variable counts as not set.

    Args:
        kind: a dataclass; fields without a variable are left out.
        environ: the environment.

    Raises:
        SettingInvalid: for the first variable that cannot be read.
    """
    given: dict[str, Any] = {}
    for each in fields(kind):
        found = environ.get(each.metadata.get("name", ""), "").strip()
        if found:
            given[each.name] = _cast(each.metadata, found)
    return given


def _cast(metadata: Mapping[str, Any], given: str) -> object:
    try:
        return metadata["cast"](given)
    except ValueError as error:
        raise SettingInvalid(
            f"{metadata['name']} {error}; it is normally set by {metadata['set_by']}; "
            f"an example: {metadata['name']}={metadata['example']}"
        ) from error
