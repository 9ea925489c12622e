"""Settings as dataclasses whose fields name the environment variables they are read from."""

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


def text(value: str) -> str:
    """Accept any text."""
    return value


def switch(value: str) -> bool:
    """Convert on or off."""
    if value.lower() not in {"on", "off"}:
        raise ValueError("must be on or off")
    return value.lower() == "on"


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a converter that accepts only the choices."""

    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return read


def read_variables(kind: Any, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the fields whose variables are set; an empty variable is not set.

    Args:
        kind: a dataclass; fields without a variable are left out.
        environ: the environment.

    Raises:
        SettingInvalid: for the first variable that cannot be read.
    """
    values: dict[str, Any] = {}
    for field in fields(kind):
        # Tools that deploy endpoints set variables without a value to an empty text.
        value = environ.get(field.metadata.get("name", ""), "").strip()
        if value:
            values[field.name] = _cast(field.metadata, value)
    return values


def _cast(metadata: Mapping[str, Any], value: str) -> object:
    try:
        return metadata["cast"](value)
    except ValueError as error:
        # The error of a cast continues the sentence that the variable's name begins.
        raise SettingInvalid(
            f"{metadata['name']} {error}; it is normally set by {metadata['set_by']}; "
            f"for example {metadata['name']}={metadata['example']}"
        ) from error
