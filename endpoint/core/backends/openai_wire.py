"""OpenAI's images API as servers of diffusion models have it: bodies, pictures and errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .answers import (
    decoded,
    first_of,
    invalid,
    json_of,
    named_in,
    objects_in,
    out_of_memory,
    readable,
)
from .backend import WORDS, BadAnswer, words
from .fields import GenerationRequest, InvalidField

_SIDES = {"width", "height"}
# The contract's names of the servers' fields.
_FIELDS = {
    **{word: name for name, word in WORDS.items()},
    "size": "width",
    "lora": "lora",
    "output_format": "format",
    "prompt": "prompt",
}
# How vLLM quotes what pydantic found: {'loc': ('body', 'size'), 'msg': 'Input should be ...'}.
_QUOTED = re.compile(r"""'msg': (?:'([^']*)'|"([^"]*)")""")
# Statuses with which a server refuses a request for what is in it.
_REFUSALS = {400, 413, 422}
# OpenAI's codes of a refusal by a filter:
# https://developers.openai.com/api/docs/guides/image-generation#content-moderation
_BLOCKED = {"moderation_blocked", "content_policy_violation"}


def with_both_sides(
    request: GenerationRequest, defaults: Mapping[str, object]
) -> GenerationRequest:
    """Return a request with both sides or neither, because `size` names both together.

    Raises:
        InvalidField: if one side is set, and the model has no default of the other one.
    """
    unset = [side for side in ("width", "height") if getattr(request, side) is None]
    if len(unset) != 1:
        return request
    if unset[0] not in defaults:
        raise InvalidField(unset[0], "is needed, because the model's own size is not known")
    return request.complete(**{unset[0]: defaults[unset[0]]})


def openai_content(request: GenerationRequest, fields: Iterable[str]) -> dict[str, Any]:
    """Return a request for one picture, with those of the fields that it sets."""
    names = [name for name in fields if name in WORDS and name not in _SIDES]
    content = {"prompt": request.prompt, "n": 1, **words(request, sorted(names))}
    if request.width and request.height:
        content["size"] = f"{request.width}x{request.height}"
    return content


def openai_picture(body: bytes, media_type: str) -> bytes:
    """Return the picture in an answer; raises BadAnswer."""
    if media_type.startswith("image/"):
        return body
    first = first_of(json_of(body), "data")
    if not isinstance(first, dict) or first.get("b64_json") is None:
        raise BadAnswer("JSON without data[0].b64_json")
    return decoded(first["b64_json"])


def openai_report(status: int | None, text: str) -> dict[str, Any]:
    """Return what an answer of FastAPI or of OpenAI's API says, as `Backend.report`."""
    # What is refused may quote a prompt, with any words in it.
    if status not in _REFUSALS and (report := out_of_memory(text)):
        return report
    for key in ('"error"', '"detail"', '"object"', '"message"'):
        for answer in objects_in(text, key):
            message, name, code = _error_in(answer)
            if code in _BLOCKED:
                return {"code": "moderation_blocked", "message": readable(message)}
            if message and status in _REFUSALS:
                field = _FIELDS.get(name) or named_in(message, _FIELDS)
                quoted = _QUOTED.search(message)
                return invalid(field, (quoted[1] or quoted[2]) if quoted else message)
    return {}


def _error_in(answer: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the message, the server's name of a field and the code of an answer's error."""
    error = answer.get("error", answer.get("detail", answer))
    # FastAPI's list of what pydantic found: [{"loc": ["body", "size"], "msg": "..."}].
    if isinstance(error, list):
        error = error[0] if error else None
    if isinstance(error, str):
        return error, "", ""
    if not isinstance(error, dict):
        return "", "", ""
    location = error.get("loc")
    # vLLM writes "body.size".
    name = str(error.get("param") or "").rpartition(".")[2]
    if isinstance(location, list) and location:
        name = str(location[-1])
    message = str(error.get("message") or error.get("msg") or "")
    return message, name, str(error.get("code") or "")
