"""The vocabulary: the things that the model can draw, from `concepts.json`."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

Artwork = list[Image.Image]  # one RGBA image for each thing, in the vocabulary's order


@dataclass(frozen=True)
class Thing:
    """An everyday thing and the words for it."""

    name: str
    icon: str  # the name in the artwork package
    aliases: tuple[str, ...] = ()
    fixed_colour: bool = False  # people and faces: "a green doctor" is not supported
    no_article: bool = False  # "grapes", "bread"
    rides: bool = False
    carries: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """All words for this thing, its name first."""
        return (self.name, *self.aliases)


@cache
def all_things() -> tuple[Thing, ...]:
    """Return the vocabulary in its fixed order: a thing's index is its class in training."""
    rows = json.loads(Path(__file__).with_name("concepts.json").read_text(encoding="utf-8"))
    return tuple(Thing(**{**row, "aliases": tuple(row.get("aliases", ()))}) for row in rows)
