"""A model's own steps, guidance scale and size, for what a request leaves unset.

One more value is no field of a request: where a refiner takes over.

Three places know them, the first that does wins: `EASEL_DEFAULTS`, the file `easel.json` in the
model's folder, and the pipeline itself (`easel.pipelines.capabilities`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from easel.errors import ModelUnusable
from generation import RULES, InvalidField, Number

FILE_NAME = "easel.json"
_RULES = {**RULES, "refiner_start": Number("The share of the steps that the base does.", 0.1, 1)}


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Steps, guidance scale, and width and height in pixels; None where nothing is known.

    The limits are the contract's own. `refiner_start` is the share of the denoising that the base
    does before the refiner takes over, 0.1 to 1; it matters only to a model that has a refiner.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    refiner_start: float | None = None

    @classmethod
    def from_dict(cls, data: object) -> Defaults:
        """Make defaults from decoded JSON; null stands for unknown.

        Raises:
            InvalidField: for an unknown field or a value outside the contract's limits.
            ValueError: if `data` is not an object.
        """
        if not isinstance(data, Mapping):
            raise ValueError("must be a JSON object")
        names = [each.name for each in fields(cls)]
        given: dict[str, Any] = {}
        for name, value in data.items():
            if name not in names:
                raise InvalidField(str(name), f"is not a default; there are {', '.join(names)}")
            given[name] = None if value is None else _clean(name, value)
        return cls(**given)

    @classmethod
    def from_folder(cls, folder: Path) -> Defaults:
        """Read `easel.json`; a folder without one knows nothing.

        Raises:
            ModelUnusable: if the file holds anything but defaults.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            return cls()
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:  # InvalidField and broken JSON or UTF-8 among them
            raise ModelUnusable(f"{FILE_NAME} in the model's folder: {error}") from error

    def over(self, others: Defaults) -> Defaults:
        """Return these defaults, with what is unknown here taken from `others`."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return Defaults(**{**asdict(others), **known})

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of a request's fields, by the contract's names."""
        values = asdict(self)
        return {name: values[name] for name in values if name in RULES and values[name] is not None}


def _clean(name: str, value: object) -> object:
    try:
        return _RULES[name].clean(value)
    except ValueError as error:
        raise InvalidField(name, str(error)) from error
