"""A model's own steps, guidance scale and size, for the fields that a request leaves unset.

Two more are no fields of a request: `refiner_start`, where a refiner takes over, and
`largest_area`, above which pictures are painted smaller and scaled up.

There are three sources, in this order of precedence: `EASEL_DEFAULTS`, the file `easel.json` in the
model's folder, and the pipeline itself (`easel.pipelines.capabilities`). That file can also
describe the model to people (`description.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from easel.errors import ModelUnusable
from easel.model_folder.description import FIELDS as DESCRIPTION
from easel.model_folder.description import Description
from easel.model_folder.files import DEFAULTS as FILE_NAME
from easel.model_folder.files import FolderUnusable, read_defaults
from generation import LARGEST_AREA, RULES, InvalidField, Number

# The rules for a request's fields, and those for the values that are no fields.
_RULES = {
    **RULES,
    "refiner_start": Number("The share of the steps that the base does.", 0.1, 1),
    "largest_area": LARGEST_AREA,
}


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Steps, guidance scale, and width and height in pixels; None where there is no default.

    The limits are those of a request. `refiner_start` is the share of the denoising that the base
    does before the refiner takes over, 0.1 to 1; it has no effect without a refiner.
    `largest_area` is in pixels; the contract's largest picture has 1,536 x 1,536.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    refiner_start: float | None = None
    largest_area: int | None = None

    @classmethod
    def from_dict(cls, data: object) -> Defaults:
        """Create defaults from decoded JSON; null means no default.

        Raises:
            InvalidField: for an unknown field or a value outside the contract's limits.
            ValueError: if `data` is not an object.
        """
        if not isinstance(data, Mapping):
            raise ValueError("must be a JSON object")
        names = [field.name for field in fields(cls)]
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name not in names:
                raise InvalidField(str(name), f"is not a default; use {', '.join(names)}")
            # A file may list all names and leave some open with null.
            values[name] = None if value is None else _clean(name, value)
        return cls(**values)

    @classmethod
    def from_folder(cls, folder: Path) -> Defaults:
        """Read `easel.json`; a folder without one has no defaults.

        Raises:
            ModelUnusable: if the file contains anything but defaults and a description.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            return cls()
        try:
            return cls.from_dict(_split(read_defaults(path))[0])
        except (FolderUnusable, ValueError) as error:  # includes InvalidField
            raise ModelUnusable(f"{FILE_NAME} in the model's folder: {error}") from error

    def over(self, others: Defaults) -> Defaults:
        """Return these defaults; those that are None are taken from `others`."""
        own = {name: value for name, value in asdict(self).items() if value is not None}
        return Defaults(**{**asdict(others), **own})

    def to_dict(self) -> dict[str, Any]:
        """Return the defaults that are fields of a request, without those that are None."""
        values = asdict(self)
        return {name: values[name] for name in values if name in RULES and values[name] is not None}


def read_description(folder: Path) -> Description:
    """Read the description in `easel.json`; empty for a folder without one.

    Raises:
        ModelUnusable: if it is not a description.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return Description()
    try:
        return Description.from_dict(_split(read_defaults(path))[1])
    except (FolderUnusable, ValueError) as error:
        raise ModelUnusable(f"{FILE_NAME} in the model's folder: {error}") from error


def _split(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a file's defaults, and its description."""
    defaults = {name: value for name, value in data.items() if name not in DESCRIPTION}
    return defaults, {name: value for name, value in data.items() if name in DESCRIPTION}


def _clean(name: str, value: object) -> object:
    try:
        return _RULES[name].clean(value)
    except ValueError as error:
        raise InvalidField(name, str(error)) from error
