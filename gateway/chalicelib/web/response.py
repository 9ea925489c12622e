"""Answers: status, headers and bytes, before Chalice wraps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from chalicelib.errors import GatewayError
from chalicelib.generation import GenerationRequest
from chalicelib.image_files import MEDIA_TYPES, content_disposition
from chalicelib.web.pages import Page, problem_page
from chalicelib.web.request import Visit

_FOR_EVER = "public, max-age=31536000, immutable"
_NEVER = "no-store"
# API Gateway allows 10,240 bytes for all headers together, and one character may take 12 of them.
_LONGEST_PROMPT_HEADER = 6_000


@dataclass(frozen=True)
class Answer:
    """What goes back to the visitor; `Content-Type` is spelled as Chalice looks for it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def picture_answer(body: bytes, request: GenerationRequest, *, fixed: bool, tag: str) -> Answer:
    """Return the picture itself, with what made it in the headers.

    `fixed` says that the visitor's own URL names the seed: such a URL is one picture for ever, and
    any cache may keep it, under `tag`. A URL that leaves the seed open must paint anew each time.
    """
    headers = {
        "Content-Type": MEDIA_TYPES[request.format],
        "Content-Disposition": content_disposition(request),
        "Cache-Control": _FOR_EVER if fixed else _NEVER,
        "X-Seed": str(request.seed),
        "X-Model": str(request.model),
        "X-Prompt": _prompt_header(request.prompt),
    }
    return Answer(200, body, {**headers, "ETag": f'"{tag}"'} if fixed else headers)


def is_known(visit: Visit, tag: str) -> bool:
    """Whether the visitor has what `tag` names already, and asks only if it is still the same.

    https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match
    """
    return f'"{tag}"' in visit.headers.get("if-none-match", "")


def known_picture_answer(request: GenerationRequest, tag: str) -> Answer:
    """Return word that the picture is as the visitor has it; its headers are those of the first."""
    return Answer(304, b"", picture_answer(b"", request, fixed=True, tag=tag).headers)


def head_answer(format: str) -> Answer:  # noqa: A002 (the contract's word)
    """Return what a HEAD request may know of a picture that nobody has painted."""
    return Answer(200, b"", {"Content-Type": MEDIA_TYPES[format]})


def json_answer(value: Any, status: int = 200) -> Answer:
    """Return a value as JSON."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": "application/json"})


def home_answer(page: Page, visit: Visit) -> Answer:
    """Return a page that a browser may keep, though it asks each time whether it has changed."""
    tag = hashlib.sha256(page.html).hexdigest()[:32]
    answer = page_answer(page)
    headers = {**answer.headers, "ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    known = is_known(visit, tag)
    return Answer(304 if known else 200, b"" if known else answer.body, headers)


def page_answer(page: Page, status: int = 200) -> Answer:
    """Return a page under its own content security policy."""
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": page.policy,
        "Referrer-Policy": "same-origin",
    }
    return Answer(status, page.html, headers)


def see_other(location: str) -> Answer:
    """Send the visitor on to another address of this gateway, to be fetched with GET."""
    return Answer(303, b"", {"Location": location, "Content-Type": "text/plain; charset=utf-8"})


def prefetch_answer() -> Answer:
    """Refuse to paint ahead; browsers ask again when the visitor really comes."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "Retry-After": "1"}
    return Answer(503, b"Pictures are painted when they are asked for.\n", headers)


def problem_answer(error: GatewayError, visit: Visit) -> Answer:
    """Return an error as a short page to a person, and as JSON to a program."""
    if visit.is_navigation:
        page = problem_page(error.status, error.message, error.retry_after, visit.root)
        answer = page_answer(page, error.status)
    else:
        answer = json_answer({"error": _describe(error, visit)}, error.status)
    return Answer(answer.status, answer.body, {**answer.headers, **retry_headers(error)})


def retry_headers(error: GatewayError) -> dict[str, str]:
    """Return what tells a client when, and whether by itself, to send its request again."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if not error.resend:
        headers["x-should-retry"] = "false"  # what OpenAI's client libraries look for
    return headers


def _describe(error: GatewayError, visit: Visit) -> dict[str, Any]:
    described = {
        "code": error.code,
        "message": error.message,
        "field": error.field,
        "retry_after": error.retry_after,
        "request_id": visit.request_id,
    }
    return {name: value for name, value in described.items() if value is not None}


def _prompt_header(prompt: str) -> str:
    encoded = ""
    for character in prompt:
        piece = quote(character, safe="")
        if len(encoded) + len(piece) > _LONGEST_PROMPT_HEADER:
            break
        encoded += piece
    return encoded
