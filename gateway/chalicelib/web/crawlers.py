"""Visitors that nobody sits behind: they are shown what exists, and never cost a run.

They are known by what they call themselves, as `crawlers.json` lists them. One that calls itself a
browser is taken for one: the limits hold for it as for anybody.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from chalicelib.web.pages import preview_page
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, page_answer

_FILE = Path(__file__).with_name("crawlers.json")
_NOT_TO_BE_READ = ("inference", "jobs", "v1", "sdapi")


def is_crawler(visit: Visit) -> bool:
    """Whether a visit is a search engine's, a link preview's or another program's of that kind."""
    agent = visit.headers.get("user-agent", "").lower()
    return any(name in agent for names in _agents() for name in names)


def preview_answer(visit: Visit, prompt: str) -> Answer:
    """Return what stands for a picture that nobody has painted: its words, for a link's preview."""
    return page_answer(preview_page(visit.root, prompt))


def robots_answer(visit: Visit) -> Answer:
    """Ask crawlers to leave the pictures alone; previews of links may look.

    A robots.txt counts at the root of a host alone, so it has to be a custom domain that leads its
    root here: https://www.rfc-editor.org/rfc/rfc9309#section-2.3
    """
    previews = [f"User-agent: {name.rstrip('/')}\n" for name in _agents()[0] if name.isalpha()]
    forbidden = [f"Disallow: {visit.root}/{part}\n" for part in _NOT_TO_BE_READ]
    lines = [*previews, "Allow: /\n", "\n", "User-agent: *\n", *forbidden]
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "public, max-age=3600"}
    return Answer(200, "".join(lines).encode(), headers)


@cache
def _agents() -> tuple[tuple[str, ...], tuple[str, ...]]:
    data = json.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(data["previews"]), tuple(data["crawlers"])
