"""The models that Easel knows, from `catalogue.json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("catalogue.json")
# A model's name as the gateway takes it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Model:
    """A model of the catalogue.

    Attributes:
        name: what a request calls it.
        repository: on the Hugging Face hub.
        defaults: steps, guidance_scale, width and height where a request names none.
    """

    name: str
    repository: str
    defaults: dict[str, Any]


def read() -> dict[str, Model]:
    """Return the catalogue's models by name."""
    entries = json.loads(_FILE.read_text("utf-8"))
    return {
        name: Model(name, entry["repository"], entry["defaults"]) for name, entry in entries.items()
    }


def find(name_or_repository: str) -> Model | None:
    """Return the model with that name or in that repository."""
    for model in read().values():
        if name_or_repository in (model.name, model.repository):
            return model
    return None


def as_name(text: str) -> str:
    """Return the nearest thing to `text` that can be a model's name.

    Letters, digits, dots, hyphens and underscores stay; at most 63 characters, the first of them
    a letter or digit.
    """
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-")[:63].rstrip("-")
    return kept if _NAME.fullmatch(kept) else "model"
