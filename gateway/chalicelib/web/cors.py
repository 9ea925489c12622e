"""Which other sites' scripts may use this gateway: Cross-Origin Resource Sharing.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from chalicelib.web.request import Visit

_METHODS = "GET, HEAD, POST, DELETE"
_EXPOSED = (
    "Location, RateLimit, RateLimit-Policy, Retry-After, X-Link-Pictures-Left, X-Model, X-Prompt,"
    " X-Prompt-Warning, X-Request-Id, X-Seed"
)
_REMEMBERED_SECONDS = 600
# Headers are allowed as they are asked for: OpenAI's library in a browser sends a dozen of its own.
_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(?:\s*,\s*[A-Za-z0-9-]{1,64}){0,49}")


def cors_headers(origins: Sequence[str], visit: Visit) -> dict[str, str]:
    """Return what lets a script of another site read the answer; nothing for sites not named.

    Cookies go along only for sites that are named one by one, never for `*`.
    """
    if not origins:
        return {}
    if "*" in origins:
        return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED}
    origin = visit.headers.get("origin", "")
    if origin not in origins:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": _EXPOSED,
    }


def preflight_headers(origins: Sequence[str], visit: Visit) -> dict[str, str]:
    """Return the answer to a browser that asks before it sends."""
    allowed = cors_headers(origins, visit)
    if "Access-Control-Allow-Origin" not in allowed:
        return allowed
    headers = {
        **allowed,
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Max-Age": str(_REMEMBERED_SECONDS),
    }
    asked = visit.headers.get("access-control-request-headers", "").strip()
    if _HEADER_NAMES.fullmatch(asked):
        headers["Access-Control-Allow-Headers"] = asked
    return headers
