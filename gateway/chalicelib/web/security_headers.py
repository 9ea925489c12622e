"""The headers of every response, including those of Chalice itself.

The reasons are in OWASP's HTTP headers cheat sheet:
https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

_ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
}
_NOT_PICTURES = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Other sites' pages can embed a picture: that is what its URL is for. Opened by itself it is a
# document, in which no script runs; the browser's own style for it is allowed.
_PICTURES = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    # Below API Gateway's stage a robots.txt has no effect.
    "X-Robots-Tag": "noindex",
}
# Two years, as hstspreload.org advises; not for other hosts below this one's name.
_STRICT = "max-age=63072000"


def add_security_headers(headers: MutableMapping[str, Any], request: Mapping[str, str]) -> None:
    """Add the headers that a response does not have yet.

    Args:
        headers: those of the response.
        request: the headers of the request, by lower-case name.
    """
    present = {name.lower(): value for name, value in headers.items()}
    is_picture = str(present.get("content-type", "")).startswith("image/")
    additional = {**_ALWAYS, **(_PICTURES if is_picture else _NOT_PICTURES)}
    if request.get("x-forwarded-proto", "").rpartition(",")[2].strip() == "https":
        additional["Strict-Transport-Security"] = _STRICT
    # Browsers check this header on redirects too, and stop an `<img>` at the first one without it.
    # https://fetch.spec.whatwg.org/#http-fetch
    if "location" in present or "access-control-allow-origin" in present:
        additional["Cross-Origin-Resource-Policy"] = "cross-origin"
    for name, value in additional.items():
        if name.lower() not in present:
            headers[name] = value
