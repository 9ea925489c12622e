"""The headers that every answer carries, Chalice's own among them.

OWASP's HTTP headers cheat sheet has the reasons:
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
# A picture may stand on other sites' pages: that is what its URL is for. Opened by itself, it is a
# document, in which nothing may run; the browser's own style for it may.
_PICTURES = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Robots-Tag": "noindex",
}
# Two years, as hstspreload.org advises; not for other hosts below this one's name.
_STRICT = "max-age=63072000"


def make_safe(headers: MutableMapping[str, Any], request: Mapping[str, str]) -> None:
    """Add the headers that an answer does not have yet.

    Args:
        headers: the answer's.
        request: the visit's, by lower-case name.
    """
    present = {name.lower(): value for name, value in headers.items()}
    is_picture = str(present.get("content-type", "")).startswith("image/")
    wanted = {**_ALWAYS, **(_PICTURES if is_picture else _NOT_PICTURES)}
    if request.get("x-forwarded-proto", "").rpartition(",")[2].strip() == "https":
        wanted["Strict-Transport-Security"] = _STRICT
    if "access-control-allow-origin" in present:
        wanted["Cross-Origin-Resource-Policy"] = "cross-origin"
    for name, value in wanted.items():
        if name.lower() not in present:
            headers[name] = value
