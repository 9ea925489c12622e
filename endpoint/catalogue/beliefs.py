"""What the emulator and the tests believe about AWS, from `beliefs.json`, each with its source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("beliefs.json")


@dataclass(frozen=True)
class Belief:
    """A statement about AWS that a test leans on.

    Attributes:
        id: what `proof.json` calls it.
        belief: the statement.
        source: where AWS, or somebody who saw it, says so.
        check: the check of `prove`, if it has one.
        why_not: why it has none.
    """

    id: str
    belief: str
    source: str
    check: str | None = None
    why_not: str = ""


@cache
def beliefs() -> tuple[Belief, ...]:
    """Return all of them, in the order of the file."""
    return tuple(Belief(**entry) for entry in json.loads(_FILE.read_text("utf-8")))
