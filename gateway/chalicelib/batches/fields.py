"""The contract of `generation.py`, which both copies of this folder find next to it."""

from ..generation import (
    RULES,
    GenerationRequest,
    InvalidField,
    Name,
    Number,
    Rule,
    Text,
    Weighted,
    Whole,
)

__all__ = [
    "RULES",
    "GenerationRequest",
    "InvalidField",
    "Name",
    "Number",
    "Rule",
    "Text",
    "Weighted",
    "Whole",
]
