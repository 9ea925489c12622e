"""The HTML pages: each is complete in one response, and loads nothing from elsewhere.

A page in `pages/` includes what it shares with others, and its own style and script, by name:

    <!-- head.html -->     first in <head>: base URL, icon, shared style
    <!-- brand.html -->    in the page's <header>: the logo, which links to the home page
    /* home.css */         in <style>
    /* home.js */          in <script>

`notice.html` is the frame of all errors: what to do next is in its place `<!-- advice -->`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Any

_FOLDER = Path(__file__).parents[1] / "pages"
_INCLUDE = re.compile(r"<!-- ([a-z_]+\.html) -->|/\* ([a-z_]+\.(?:css|js)) \*/")

# Lines that are empty or only a comment, and the indentation of the others.
_UNSENT = re.compile(r"^[ \t]*(?:(?://.*|/\*(?:(?!\*/).)*\*/)?\n)?", re.MULTILINE)
# In CSS, white space around punctuation, but not before a colon, which begins a selector as well.
_SPACE = re.compile(r";?\s*(\})\s*|\s*([{;,])\s*|(:)\s+")

_REFUSED, _FAILED = "That cannot be painted", "No picture this time"
_HEADINGS = {
    401: "This easel asks for a key",
    402: "The paint is used up",
    404: "Nothing hangs here",
    429: "That was a lot of painting",
}


@dataclass(frozen=True)
class Page:
    """A page and the content security policy that it is served under."""

    html: bytes
    policy: str


def home_page(root: str) -> Page:
    """Return the page with the prompt box; `root` is its public path without a final slash."""
    return _page("home.html", base=f"{root}/")


def teach_page(root: str, uploads: str) -> Page:
    """Return the page that teaches a model something; `uploads` is the origin of its uploads."""
    page = _page("teach.html", base=f"{root}/")
    # Large sample sheets come from the bucket as well.
    allowed = (f"{directive} 'self'" for directive in ("connect-src", "img-src"))
    policy = page.policy
    for sources in allowed:
        policy = policy.replace(sources, f"{sources} {uploads}")
    return Page(page.html, policy)


def usage_page(root: str) -> Page:
    """Return the page that shows what was used."""
    return _page("usage.html", base=f"{root}/")


def waiting_page(root: str, job: str, prompt: str, waited: float) -> Page:
    """Return the page that shows how long a picture takes, and then the picture."""
    return _page("waiting.html", base=f"{root}/", job=job, prompt=prompt, waited=f"{waited:.0f}")


def _in_words(seconds: int) -> str:
    """Return a time to wait: a person counts neither an hour nor a month in seconds."""
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} seconds"


def error_page(status: int, message: str, retry_after: int | None, root: str) -> Page:
    """Return the page that describes an error and says when to try again."""
    return _page(
        "notice.html",
        # A browser can sign in right there, and comes back to the same address.
        "sign_in.html" if status == HTTPStatus.UNAUTHORIZED else "retry.html",
        base=f"{root}/",
        status=str(status),
        title=HTTPStatus(status).phrase,
        heading=_HEADINGS.get(status, _REFUSED if status < 500 else _FAILED),
        message=message,
        again=f"It may work again in {_in_words(retry_after)}." if retry_after else "",
    )


def docs_page(origin: str, root: str) -> Page:
    """Return the API reference of the gateway at `origin` and `root`."""
    return _page("docs.html", base=f"{root}/", origin=origin, root=root)


def openapi_document(address: str) -> dict[str, Any]:
    """Return the OpenAPI document of the gateway at an address, without a slash at its end."""
    # Read at each request: few clients ask for it, and a cold start must not wait for it.
    document = json.loads((_FOLDER / "openapi.json").read_text(encoding="utf-8"))
    return {**document, "servers": [{"url": address or "/"}]}


def preview_page(root: str, prompt: str) -> Page:
    """Return the page that shows a link preview the prompt of a picture that was not generated."""
    return _page("preview.html", base=f"{root}/", prompt=prompt)


def _page(name: str, advice: str = "", **values: str) -> Page:
    # A prompt or a message can contain markup.
    escaped = {key: html.escape(value) for key, value in values.items()}
    template, policy = _template(name, advice)
    return Page(template.substitute(escaped).encode(errors="replace"), policy)


@cache
def _template(name: str, advice: str) -> tuple[Template, str]:
    """Assemble a page, and return it with a policy that allows only its own styles and scripts."""
    text = _assembled(name)
    if advice:
        text = text.replace("<!-- advice -->\n", _assembled(advice))
    # Hashes instead of nonces: the pages are the same for everyone and can be cached.
    # blob: is for pictures that the page has fetched itself, data: for the icons in its styles.
    policy = (
        "default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; form-action 'self';"
        " base-uri 'self'; frame-ancestors 'self';"
        f" style-src {_hashes('style', text)}; script-src {_hashes('script', text)}"
    )
    return Template(text), policy


def _assembled(name: str) -> str:
    """Return a file with the files that it includes.

    Pages have placeholders such as `$base`. Styles and scripts have none: their dollar signs are
    doubled for the template; lines of comments and most white space are left out, a fifth of the
    page.
    """
    text = (_FOLDER / name).read_text(encoding="utf-8")
    if not name.endswith(".html"):
        text = _UNSENT.sub("", text)
        text = _SPACE.sub(r"\1\2\3", text) if name.endswith(".css") else text
        text = text.replace("$", "$$")
    return _INCLUDE.sub(lambda include: _assembled(include[1] or include[2]).rstrip("\n"), text)


def _hashes(tag: str, text: str) -> str:
    """Return the hashes that allow a page's inline elements.

    https://www.w3.org/TR/CSP3/#external-hash
    """
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", text.replace("$$", "$"), re.DOTALL)
    digests = (hashlib.sha256(content.encode()).digest() for content in contents)
    return (
        " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests) or "'none'"
    )
