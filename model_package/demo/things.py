"""The vocabulary: the things the model can draw, read from `concepts.json`."""

import json
from dataclasses import dataclass
from functools import cache

from model_package.demo.work_dir import HERE


@dataclass(frozen=True)
class Thing:
    """One everyday thing and the words for it."""

    name: str
    icon: str  # its name in the artwork package
    aliases: tuple[str, ...] = ()
    fixed_colour: bool = False  # people and faces: "a green doctor" is not a wish we serve
    no_article: bool = False  # "grapes", "bread"
    rides: bool = False
    carries: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """Every word that means this thing, its own name first."""
        return (self.name, *self.aliases)


@cache
def all_things() -> tuple[Thing, ...]:
    """The vocabulary in its fixed order: a thing's index is its class in training."""
    rows = json.loads((HERE / "concepts.json").read_text(encoding="utf-8"))
    return tuple(Thing(**{**row, "aliases": tuple(row.get("aliases", ()))}) for row in rows)
