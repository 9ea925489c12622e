"""A diffusers pipeline behind a serving toolkit: what its exceptions say."""

from __future__ import annotations

import re
from typing import Any

from .answers import invalid, out_of_memory
from .backend import WORDS

_FIELDS = {word: name for name, word in WORDS.items()}
# TypeError of a pipeline's `__call__`, which each model family defines for itself, and the words of
# JumpStart's script.
_UNEXPECTED = re.compile(r"(?:unexpected keyword argument|contains an invalid key) \W*(\w+)")
# ValueError of diffusers' `check_inputs`.
_INDIVISIBLE = re.compile(r"`?height`? and `?width`? have to be divisible by (\d+)")


def pipeline_report(text: str) -> dict[str, Any]:
    """Return what an exception says, as `Backend.report`.

    The serving toolkits report any exception as a 400, so that the status means nothing: only what
    certainly is about a field of the request is a refusal.
    """
    if (argument := _UNEXPECTED.search(text)) and argument[1] in _FIELDS:
        return invalid(_FIELDS[argument[1]], "the model's pipeline does not take it")
    if size := _INDIVISIBLE.search(text):
        return invalid("width", f"must be a multiple of {size[1]}, and so must height")
    return out_of_memory(text)
