"""The pages that a person sees: whole in one response, nothing loaded from elsewhere.

A page in `pages/` names what it shares with others, and its own style and script, in their place:

    <!-- head.html -->     first in <head>: base address, icon, shared style
    <!-- brand.html -->    in the page's <header>: the mark, which leads home
    /* home.css */         in <style>
    /* home.js */          in <script>
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from string import Template

_FOLDER = Path(__file__).parents[1] / "pages"
_INCLUDE = re.compile(r"<!-- ([a-z_]+\.html) -->|/\* ([a-z_]+\.(?:css|js)) \*/")

_REFUSED, _FAILED = "That cannot be painted", "No picture this time"
_HEADINGS = {
    401: "This easel asks for a key",
    404: "Nothing hangs here",
    429: "That was a lot of painting",
}


@dataclass(frozen=True)
class Page:
    """A page and the content security policy that it is served under."""

    html: bytes
    policy: str


def home_page(root: str) -> Page:
    """Return the page with the prompt box; `root` is its own public path without a final slash."""
    return _page("home.html", base=f"{root}/")


def waiting_page(root: str, job: str, prompt: str, waited: float) -> Page:
    """Return the page that shows how long a picture takes, and then the picture."""
    return _page("waiting.html", base=f"{root}/", job=job, prompt=prompt, waited=f"{waited:.0f}")


def problem_page(status: int, message: str, retry_after: int | None, root: str) -> Page:
    """Return the page that tells a person what went wrong and when to try again."""
    return _page(
        "problem.html",
        base=f"{root}/",
        status=str(status),
        title=HTTPStatus(status).phrase,
        heading=_HEADINGS.get(status, _REFUSED if status < 500 else _FAILED),
        message=message,
        again=f"It may work again in {retry_after} seconds." if retry_after else "",
    )


def docs_page(root: str, **parts: str) -> Page:
    """Return the API's reference; the `parts` are HTML already, with everything in it escaped."""
    template, policy = _template("docs.html")
    return Page(template.substitute(base=html.escape(f"{root}/"), **parts).encode(), policy)


def preview_page(root: str, prompt: str) -> Page:
    """Return the page that tells a link's preview the prompt of a picture that is not painted."""
    return _page("preview.html", base=f"{root}/", prompt=prompt)


def _page(name: str, **values: str) -> Page:
    escaped = {key: html.escape(value) for key, value in values.items()}
    template, policy = _template(name)
    return Page(template.substitute(escaped).encode(), policy)


@cache
def _template(name: str) -> tuple[Template, str]:
    """Put a page together, and allow exactly its own styles and scripts."""
    text = _assembled(name)
    policy = (
        "default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; form-action 'self';"
        " base-uri 'self'; frame-ancestors 'self';"
        f" style-src {_hashes('style', text)}; script-src {_hashes('script', text)}"
    )
    return Template(text), policy


def _assembled(name: str) -> str:
    """Return a file with every file that it names put in the place of the name.

    Pages hold placeholders such as `$base`. Styles and scripts hold none: their dollar signs are
    their own, and doubled for the template.
    """
    text = (_FOLDER / name).read_text(encoding="utf-8")
    if not name.endswith(".html"):
        text = text.replace("$", "$$")
    return _INCLUDE.sub(lambda found: _assembled(found[1] or found[2]).rstrip("\n"), text)


def _hashes(tag: str, text: str) -> str:
    """Return the hashes that allow a page's inline elements.

    https://www.w3.org/TR/CSP3/#external-hash
    """
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", text.replace("$$", "$"), re.DOTALL)
    digests = (hashlib.sha256(content.encode()).digest() for content in contents)
    return " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests) or "'none'"
