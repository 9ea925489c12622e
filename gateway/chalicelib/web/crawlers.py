"""Search engines, link previews and the like: they get what exists, and never cost a run.

They are recognised by the names that they send, as `crawlers.json` lists them. A crawler that calls
itself a browser is treated as one: the limits apply to it as to any client.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from chalicelib.web.request import Request
from chalicelib.web.response import Response

_FILE = Path(__file__).with_name("crawlers.json")
_DISALLOWED = ("inference", "jobs", "v1", "sdapi")


def is_crawler(request: Request) -> bool:
    """Whether a request is that of a search engine, a link preview or a similar program."""
    # Substrings, because crawlers put their name anywhere in a browser's user agent.
    agent = request.headers.get("user-agent", "").lower()
    return any(name in agent for names in _agents() for name in names)


def is_prefetch(request: Request) -> bool:
    """Whether a browser asks for what its user may never look at.

    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Purpose, and what
    browsers sent before it.
    """
    names = ("sec-purpose", "purpose", "x-purpose", "x-moz")
    said = " ".join(request.headers.get(name, "") for name in names).lower()
    return "prefetch" in said or "prerender" in said or "preview" in said


def robots_response(request: Request) -> Response:
    """Return a robots.txt that asks crawlers not to fetch pictures, and allows link previews.

    A robots.txt applies only at the root of a host, so this one takes effect only where a custom
    domain maps its root to the gateway: https://www.rfc-editor.org/rfc/rfc9309#section-2.3
    """
    previews = [f"User-agent: {name.rstrip('/')}\n" for name in _agents()[0] if name.isalpha()]
    disallowed = [f"Disallow: {request.root}/{part}\n" for part in _DISALLOWED]
    lines = [*previews, "Allow: /\n", "\n", "User-agent: *\n", *disallowed]
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "public, max-age=3600"}
    return Response(200, "".join(lines).encode(), headers)


@cache
def _agents() -> tuple[tuple[str, ...], tuple[str, ...]]:
    data = json.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(data["previews"]), tuple(data["crawlers"])
