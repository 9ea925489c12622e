"""A model's description for people: what it is, example prompts, and the words that it knows.

It is part of `easel.json`, next to the weights, and every part of it is optional:

    {"about": "Draws what a small zoo has.",
     "examples": ["a red panda in the snow"],
     "vocabulary": {"things": ["a panda", ["a tiger", "big cat"]],
                    "characters": ["a keeper"],
                    "colours": ["red", ["grey", "gray"]],
                    "backgrounds": ["in the snow"],
                    "words": ["photo"]}}

An entry of a vocabulary is text, or a list of text: a name, and other names for the same. Things
stand as in a prompt, with their article. Characters are things that have a colour of their own.
`words` are words that the model knows and that name none of these.

This file uses the standard library only. It exists three times with the same bytes, because each
part is shipped alone: edit it in `model_package/` and copy it to `gateway/chalicelib/` and
`endpoint/core/model_folder/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIELDS = ("about", "examples", "vocabulary")
KINDS = ("things", "characters", "colours", "backgrounds", "words")
# Bytes of JSON: the page fetches it with the options, and a Lambda keeps it in memory.
LARGEST = 100_000
_LONGEST = {"about": 500, "examples": 300, "vocabulary": 100}  # characters of one text

Names = tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows: the names of each thing, the one to show first."""

    things: tuple[Names, ...]
    characters: tuple[Names, ...] = ()
    colours: tuple[Names, ...] = ()
    backgrounds: tuple[Names, ...] = ()
    words: tuple[Names, ...] = ()


@dataclass(frozen=True)
class Description:
    """What a model says about itself; empty for one that says nothing.

    Attributes:
        about: plain text; what is between backticks is code.
        examples: prompts that show what it can do.
        vocabulary: None for a model that knows words in general.
    """

    about: str = ""
    examples: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    _fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_dict(cls, data: object) -> Description:
        """Read decoded JSON; null is as good as absent.

        Raises:
            ValueError: for anything else than a description; the message names the field.
        """
        if not isinstance(data, Mapping):
            raise ValueError("a description must be a JSON object")
        given = {name: value for name, value in data.items() if value is not None}
        if unknown := sorted(set(given) - set(FIELDS)):
            raise ValueError(f"{unknown[0]}: is not part of a description")
        size = len(json.dumps(given).encode())
        if size > LARGEST:
            raise ValueError(f"the description has {size:,} bytes of JSON, {LARGEST:,} at most")
        return cls(
            _text("about", given["about"]) if "about" in given else "",
            tuple(_text("examples", each) for each in _list("examples", given.get("examples", []))),
            _vocabulary(given["vocabulary"]) if "vocabulary" in given else None,
            given,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as `from_dict` reads it, without fields that are empty."""
        return {name: value for name, value in self._fields.items() if value}


def _vocabulary(value: object) -> Vocabulary:
    if not isinstance(value, Mapping):
        raise ValueError("vocabulary: must be a JSON object")
    if unknown := sorted(set(value) - set(KINDS)):
        raise ValueError(f"vocabulary: {unknown[0]} is none of {', '.join(KINDS)}")
    kinds = {name: _entries(f"vocabulary.{name}", value.get(name) or []) for name in KINDS}
    if not kinds["things"]:
        raise ValueError("vocabulary.things: must name a thing")
    return Vocabulary(**kinds)


def _entries(name: str, value: object) -> tuple[Names, ...]:
    entries = []
    for entry in _list(name, value):
        names = _list(name, [entry] if isinstance(entry, str) else entry)
        if not names:
            raise ValueError(f"{name}: has an entry without a name")
        entries.append(tuple(_text(name, each) for each in names))
    return tuple(entries)


def _list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name}: must be a list of text")
    return value


def _text(name: str, value: object) -> str:
    longest = _LONGEST[name.partition(".")[0]]
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise ValueError(f"{name}: must be text of 1 to {longest} characters")
    if not value.isprintable():
        raise ValueError(f"{name}: must not contain control characters")
    return value
