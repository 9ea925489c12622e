"""Cross-Origin Resource Sharing: which other sites' scripts can use this gateway.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from chalicelib.web.request import Request

_METHODS = "GET, HEAD, POST, DELETE"
# Scripts can read no other headers but a few:
# https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name
_EXPOSED = (
    "Location, RateLimit, RateLimit-Policy, Retry-After, X-Cost-USD, X-Link-Pictures-Left, X-Model,"
    " X-Painted-Size, X-Prompt, X-Prompt-Warning, X-Request-Id, X-Seed"
)
_REMEMBERED_SECONDS = 600
# Any header is allowed: OpenAI's library in a browser sends a dozen of its own.
_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(?:\s*,\s*[A-Za-z0-9-]{1,64}){0,49}")


def cors_headers(origins: Sequence[str], request: Request) -> dict[str, str]:
    """Return the headers that let a script of another site read the response, if it is allowed to.

    Cookies are allowed only for sites that are listed one by one, never for `*`.
    """
    if not origins:
        return {}
    # Browsers accept no cookies with `*`:
    # https://fetch.spec.whatwg.org/#cors-protocol-and-credentials
    if "*" in origins:
        return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED}
    origin = request.headers.get("origin", "")
    # Vary also without a match: a cache must not give this response to an allowed site.
    if origin not in origins:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": _EXPOSED,
    }


def preflight_headers(origins: Sequence[str], request: Request) -> dict[str, str]:
    """Return the headers of a response to a browser's preflight request."""
    allowed = cors_headers(origins, request)
    if "Access-Control-Allow-Origin" not in allowed:
        return allowed
    headers = {
        **allowed,
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Max-Age": str(_REMEMBERED_SECONDS),
    }
    names = request.headers.get("access-control-request-headers", "").strip()
    if _HEADER_NAMES.fullmatch(names):
        headers["Access-Control-Allow-Headers"] = names
    return headers
