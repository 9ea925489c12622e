"""The pages that a person sees: whole in one response, nothing loaded from elsewhere."""

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

_FOLDER = Path(__file__).with_name("pages")


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
    again = f"It may work again in {retry_after} seconds." if retry_after else ""
    title = HTTPStatus(status).phrase
    return _page("problem.html", base=f"{root}/", title=title, message=message, again=again)


def preview_page(root: str, prompt: str) -> Page:
    """Return the page that tells a link's preview the prompt of a picture that is not painted."""
    return _page("preview.html", base=f"{root}/", prompt=prompt)


def _page(name: str, **values: str) -> Page:
    escaped = {key: html.escape(value) for key, value in values.items()}
    template, policy = _template(name)
    return Page(template.substitute(escaped).encode(), policy)


@cache
def _template(name: str) -> tuple[Template, str]:
    """Read a page, put the shared style into it, and allow exactly its own style and script."""
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    text = (_FOLDER / name).read_text(encoding="utf-8").replace("/* style.css */", style)
    policy = (
        "default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; form-action 'self';"
        " base-uri 'self'; frame-ancestors 'self';"
        f" style-src {_hashes('style', text)}; script-src {_hashes('script', text)}"
    )
    return Template(text), policy


def _hashes(tag: str, text: str) -> str:
    """Return the hashes that allow a page's inline elements.

    https://www.w3.org/TR/CSP3/#external-hash
    """
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (hashlib.sha256(content.encode()).digest() for content in contents)
    return " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests) or "'none'"
