"""Responses: status, headers, cookies and bytes, before Chalice wraps them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from chalicelib.backends.backend import MEDIA_TYPES
from chalicelib.errors import GatewayError, StillPainting
from chalicelib.generation import GenerationRequest
from chalicelib.web.pages import Page, error_page, preview_page
from chalicelib.web.request import Request

# A year, the most that RFC 2616 advised; `immutable` (RFC 8246) also covers reloading.
_FOR_EVER = "public, max-age=31536000, immutable"
# The client asks each time whether the picture is still the same one.
_REVALIDATED = "public, no-cache"
_NEVER = "no-store"
# API Gateway allows 10,240 bytes for all headers together, and one character can take 12 of them.
_LONGEST_PROMPT_HEADER = 6_000
_FILE_NAME_LENGTH = 60


@dataclass(frozen=True)
class Response:
    """What goes back to the client.

    Attributes:
        status: the HTTP status code.
        body: is not sent in response to HEAD.
        headers: `Content-Type` is spelled as Chalice looks for it.
        cookies: the values of its `Set-Cookie` headers.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()

    def with_headers(self, headers: Mapping[str, str]) -> Response:
        """Return the response with more headers; they replace those of the same name."""
        return replace(self, headers={**self.headers, **headers})


def picture_response(
    body: bytes | None,
    generation: GenerationRequest,
    *,
    fixed: bool,
    tag: str,
    painted: str | None = None,
    lasting: bool = True,
) -> Response:
    """Return a picture, with the fields that it was made with in the headers.

    Args:
        body: the file; None for 304, if the client has it already.
        generation: a complete request.
        fixed: whether the client's URL names the seed. Such a URL always returns the same picture
            and can be cached indefinitely, under `tag`; any other generates a new one each time.
        tag: the picture's id.
        painted: the size at which it was painted, if it was scaled up.
        lasting: whether it can be cached indefinitely: not if its adapters can be replaced.
    """
    cached = _FOR_EVER if lasting else _REVALIDATED
    headers = {
        "Content-Type": MEDIA_TYPES[generation.file_format],
        "Content-Disposition": content_disposition(generation),
        "Cache-Control": cached if fixed else _NEVER,
        **({} if generation.seed is None else {"X-Seed": str(generation.seed)}),
        "X-Model": str(generation.model),
        "X-Prompt": _prompt_header(generation.prompt),
        **painted_header(painted),
    }
    if fixed:
        # Without a seed each response is another picture, so there is nothing to revalidate.
        headers["ETag"] = f'"{tag}"'
    return Response(304, b"", headers) if body is None else Response(200, body, headers)


def painted_header(painted: str | None) -> dict[str, str]:
    """Return the header for a picture that was painted at another size and scaled up."""
    return {"X-Painted-Size": painted} if painted else {}


def has_tag(request: Request, tag: str) -> bool:
    """Whether the client has the version that `tag` names, and only asks for a newer one.

    https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match
    """
    # Also matches within a list, and a tag that a proxy has made weak (W/).
    return f'"{tag}"' in request.headers.get("if-none-match", "")


def response_without_picture(request: Request, generation: GenerationRequest) -> Response | None:
    """Return the response to a prefetch or HEAD, which never looks for the picture; else None."""
    if request.is_prefetch:
        # A picture would cost a run; the browser asks again when the user navigates.
        headers = {"Content-Type": "text/plain; charset=utf-8", "Retry-After": "1"}
        return Response(503, b"A prefetch generates no picture.\n", headers)
    if request.method == "HEAD":
        return Response(200, b"", {"Content-Type": MEDIA_TYPES[generation.file_format]})
    return None


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a value as JSON."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # What cannot be encoded is a question mark: an error must not fail for what it quotes.
    encoded = body.encode(errors="replace")
    return Response(status, encoded, {"Content-Type": "application/json", **(headers or {})})


def home_response(page: Page, request: Request) -> Response:
    """Return a page that a browser can store but has to revalidate each time."""
    tag = hashlib.sha256(page.html).hexdigest()[:32]
    response = page_response(page).with_headers(
        {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    )
    return replace(response, status=304, body=b"") if has_tag(request, tag) else response


def page_response(page: Page, status: int = 200) -> Response:
    """Return a page under its own content security policy."""
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": page.policy,
        "Referrer-Policy": "same-origin",
    }
    return Response(status, page.html, headers)


def preview_response(request: Request, prompt: str) -> Response:
    """Return a page with the prompt of a picture that was not generated, for a link preview."""
    return page_response(preview_page(request.root, prompt))


def see_other(location: str) -> Response:
    """Redirect the client to another URL of this gateway, to be fetched with GET."""
    # Unlike 302 and 307, 303 means GET for every client, after POST as well:
    # https://www.rfc-editor.org/rfc/rfc9110#name-303-see-other
    return Response(303, b"", {"Location": location, "Content-Type": "text/plain; charset=utf-8"})


def next_hop(request: Request, url: str, message: str) -> Response:
    """Redirect to a URL that waits again.

    Args:
        request: its query counts the redirects so far.
        url: without a query.
        message: of the error.

    Raises:
        StillPainting: for a client that has followed as many redirects as it will.
    """
    hop = request.hop
    if hop >= request.most_hops:
        raise StillPainting(message)
    return see_other(f"{url}?hop={hop + 1}")


def render_error(error: GatewayError, request: Request) -> Response:
    """Return an error as JSON, or as an HTML page for browser navigations."""
    if request.is_navigation:
        page = error_page(error.status, error.message, error.retry_after, request.root)
        response = page_response(page, error.status)
    else:
        response = json_response({"error": _described(error, request)}, error.status)
    return response.with_headers(error_headers(error, request))


def message_of(error: GatewayError, request: Request) -> str:
    """Return what is wrong and, for a program, what it can do about it."""
    return error.message if request.is_browser else f"{error.message} {error.remedy}".strip()


def error_headers(error: GatewayError, request: Request) -> dict[str, str]:
    """Return the headers of an error: when to retry, and how to authenticate."""
    headers = retry_headers(error)
    if error.status == HTTPStatus.UNAUTHORIZED:
        # Programs such as wget send a password only after this challenge. A browser would ask for
        # it in a window of its own, where pages have a better one.
        challenges = ["Bearer"] if request.is_browser else ["Bearer", "Basic"]
        realms = (f'{scheme} realm="Easel"' for scheme in challenges)
        headers["WWW-Authenticate"] = ", ".join(realms)
    return headers


def retry_headers(error: GatewayError) -> dict[str, str]:
    """Return the headers that say when to retry, and whether a library can do so by itself."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    # Otherwise they resend by themselves after 408, 409, 429 and 5xx.
    if not error.resend:
        headers["x-should-retry"] = "false"  # OpenAI's client libraries read this
    return headers


def _described(error: GatewayError, request: Request) -> dict[str, Any]:
    fields = {
        "code": error.code,
        "message": message_of(error, request),
        "field": error.field,
        "retry_after": error.retry_after,
        "request_id": request.request_id,
    }
    return {name: value for name, value in fields.items() if value is not None}


def file_names(generation: GenerationRequest) -> tuple[str, str]:
    """Return a name in ASCII and one in the prompt's own letters, both safe as file names."""
    words = re.sub(r"[^\w]+", "-", generation.prompt).strip("-_")[:_FILE_NAME_LENGTH].rstrip("-_")
    plain = re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-") or "easel"
    seed = "" if generation.seed is None else f"-{generation.seed}"
    ending = f"{seed}.{generation.file_format}"
    return plain + ending, (words or "easel") + ending


def content_disposition(generation: GenerationRequest) -> str:
    """Return the header that shows the picture inline, and names the file if it is saved.

    It has both spellings of the name, as RFC 6266, appendix D, advises.
    """
    plain, full = file_names(generation)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(full, safe='')}"


def _prompt_header(prompt: str) -> str:
    encoded = ""
    # Cut between characters: half of a percent-encoded character would not decode.
    for character in prompt:
        piece = quote(character, safe="")
        if len(encoded) + len(piece) > _LONGEST_PROMPT_HEADER:
            break
        encoded += piece
    return encoded
