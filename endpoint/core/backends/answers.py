"""Answers of all kinds: pictures in JSON, and what is said about errors."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .backend import BadAnswer

# PyTorch's, for every device: "CUDA out of memory. Tried to allocate 2.00 GiB."
_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemoryError", re.IGNORECASE)
_LONGEST_MESSAGE = 300
# Objects in S3, ARNs and absolute paths tell of the account and the container; the path of a URL
# and "width/height" do not.
_PLACE = re.compile(
    r"""\b(?:(?:s3|file)://|arn:)[^\s'"`,;)\]]+|(?<![\w/.])/(?:[\w.~@+-]+/)*[\w.~@+-]*[\w~@+-]/?"""
)


def objects_in(text: str, key: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text that begin with a key, which is written with its quotes."""
    for start in re.finditer(r"\{\s*" + key + r"\s*:", text):
        try:
            value = json.JSONDecoder().raw_decode(text, start.start())[0]
        except (ValueError, RecursionError):
            continue
        yield value


def decoded(text: object) -> bytes:
    """Return the bytes of base64 text; raises BadAnswer."""
    if not isinstance(text, str):
        raise BadAnswer("a picture that is not base64 text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadAnswer("a picture whose base64 text is damaged") from error


def json_of(body: bytes) -> Any:
    """Return the JSON of an answer; raises BadAnswer."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("neither a picture nor JSON") from error


def first_of(answer: object, key: str) -> Any:
    """Return the first of the pictures in an answer; raises BadAnswer if there is none."""
    pictures = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(pictures, list) or not pictures:
        raise BadAnswer(f"JSON without {key}")
    return pictures[0]


def out_of_memory(text: str) -> dict[str, Any]:
    """Return the report of an answer that says so; empty for any other."""
    return {"code": "out_of_memory"} if _OUT_OF_MEMORY.search(text) else {}


def invalid(field: str, message: str) -> dict[str, Any]:
    """Return a report that a request is refused for one of its fields, or for something else."""
    text = readable(message)
    if not field:
        return {"code": "invalid_request", "message": f"The model refused this request: {text}"}
    return {"code": "invalid_request", "message": f"{field}: {text}", "field": field}


def named_in(message: str, names: Mapping[str, str]) -> str:
    """Return the contract's name of the field that a message names first, in the server's words."""
    places = {
        place.start(): field
        for name, field in names.items()
        if (place := re.search(rf"\b{re.escape(name)}\b", message, re.IGNORECASE))
    }
    return places[min(places)] if places else ""


def readable(message: str) -> str:
    """Return a message on one line, without the container's places, cut to an error's length."""
    text = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    text = _PLACE.sub("…", text)
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
