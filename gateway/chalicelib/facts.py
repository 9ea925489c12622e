"""What the catalogue says of a model on offer: licence, memory, price, where it runs.

`deploy` adds it to the package, in the file of the descriptions, because it takes more than Lambda
allows for environment variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LONGEST = {"title": 100, "licence": 200, "duties": 500}  # characters
_NUMBERS = ("memory_gb", "usd_per_1000")
_LARGEST = 100_000
_MOST_TYPES = 10


@dataclass(frozen=True)
class Facts:
    """The facts of a model; unknown ones are empty or None.

    Attributes:
        title: its full name.
        licence: the licence of its weights.
        duties: what the licence requires.
        memory_gb: what it needs of a GPU's memory, in 10**9 bytes.
        usd_per_1000: the price of 1,000 pictures on an instance without idle time.
        instance_types: the types that it can run on.
    """

    title: str = ""
    licence: str = ""
    duties: str = ""
    memory_gb: float | None = None
    usd_per_1000: float | None = None
    instance_types: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: object) -> Facts:
        """Read decoded JSON.

        Raises:
            ValueError: for anything else than facts; the message names the field.
        """
        if not isinstance(data, Mapping):
            raise ValueError("facts: must be a JSON object")
        known = {*_LONGEST, *_NUMBERS, "instance_types"}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"facts: {unknown[0]} is none of {', '.join(sorted(known))}")
        fields: dict[str, Any] = {}
        for name, value in data.items():
            if name in _LONGEST:
                fields[name] = _text(name, value, _LONGEST[name])
            elif name in _NUMBERS:
                fields[name] = _number(name, value)
            else:
                fields[name] = _types(value)
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return it as `from_dict` reads it, without what is unknown."""
        values = {**vars(self), "instance_types": list(self.instance_types)}
        return {name: value for name, value in values.items() if value}


def _text(name: str, value: object, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ValueError(f"facts.{name}: must be text of at most {longest} characters")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST:
        return float(value)
    raise ValueError(f"facts.{name}: must be a number above 0, at most {_LARGEST:,}")


def _types(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_TYPES:
        raise ValueError(f"facts.instance_types: must be a list of at most {_MOST_TYPES} names")
    return tuple(_text("instance_types", each, 40) for each in value)
