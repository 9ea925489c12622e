"""What to compile: `job.json`, the only input of a job besides the model and the adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generation import RULES, InvalidField

# optimum-neuron's name of the machine.
INSTANCE = "inf2"
_FIELDS = ("width", "height", "batch", "instance", "lora")


class CompileFailed(Exception):
    """The job cannot be done; the text is a sentence that a person can act on."""


@dataclass(frozen=True)
class MergedLora:
    """An adapter that is added to the weights before they are compiled.

    Attributes:
        name: of its file, without `.safetensors`.
        weight: as in a request.
    """

    name: str
    weight: float

    def __str__(self) -> str:
        return f"{self.name}:{self.weight:g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return {"name": self.name, "weight": self.weight}

    @classmethod
    def from_dict(cls, data: object) -> MergedLora:
        """Read the fields; raises InvalidField naming `lora`."""
        if not isinstance(data, Mapping) or set(data) != {"name", "weight"}:
            raise InvalidField("lora", 'must be null, or an object with "name" and "weight"')
        name, weight = data["name"], data["weight"]
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not isinstance(name, str) or not is_number or ":" in name or "," in name:
            raise InvalidField("lora", "must have a text as its name and a number as its weight")
        lora = cls(name, float(weight))
        try:
            RULES["lora"].clean(str(lora))
        except ValueError as error:
            raise InvalidField("lora", str(error)) from error
        return lora


@dataclass(frozen=True)
class Job:
    """What to compile.

    Attributes:
        width: of every picture, in pixels: a multiple of 8 within the limits of a request.
        height: likewise.
        lora: the adapter in the weights; None for the model itself.
    """

    width: int
    height: int
    lora: MergedLora | None = None

    @classmethod
    def from_dict(cls, data: object) -> Job:
        """Read the fields.

        Raises:
            InvalidField: for an unknown field or an invalid value.
        """
        if not isinstance(data, Mapping):
            raise InvalidField("job.json", "must be a JSON object")
        for name in data:
            if name not in _FIELDS:
                raise InvalidField(str(name), f"is not a field; use {', '.join(_FIELDS)}")
        if data.get("batch", 1) != 1:
            raise InvalidField("batch", "must be 1: a compiled model paints one picture at a time")
        if data.get("instance", INSTANCE) != INSTANCE:
            raise InvalidField("instance", f"must be {INSTANCE}")
        lora = data.get("lora")
        return cls(
            width=_side("width", data),
            height=_side("height", data),
            lora=None if lora is None else MergedLora.from_dict(lora),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return {
            "width": self.width,
            "height": self.height,
            "batch": 1,
            "instance": INSTANCE,
            "lora": self.lora.to_dict() if self.lora else None,
        }


def read_job(path: Path) -> Job:
    """Return the job of a file.

    Raises:
        CompileFailed: if the file cannot be read.
        InvalidField: as `Job.from_dict`.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CompileFailed(f"job.json cannot be read: {error}") from error
    return Job.from_dict(data)


def _side(name: str, data: Mapping[str, Any]) -> int:
    try:
        pixels = RULES[name].clean(data.get(name))
    except ValueError as error:
        raise InvalidField(name, str(error)) from error
    assert isinstance(pixels, int)  # noqa: S101 - for the type checker
    return pixels
