"""Parts what people read from what programs read, and what may vary from what may not."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

PROSE = "<prose>"
# Fields of JSON whose text is for people.
_PROSE_FIELDS = {
    "message",
    "msg",
    "errors",
    "textinfo",
    "description",
    "summary",
    "Description",
    "GroupDescription",
    "AlarmDescription",
    "about",
    "comment",
    "x-unset",
}
# `detail` of AUTOMATIC1111's errors: text where it is text.
_PROSE_WHERE_TEXT = {"detail"}
# Attributes of HTML whose text is for people, or only for the style sheet.
_LEFT_OUT = {"class", "style"}
_PROSE_ATTRIBUTES = {"alt", "aria-label", "placeholder", "title", "label", "content"}
# What a drawing is made of, and what stands within a sentence.
_STROKES = {"path", "rect", "circle", "g"}
_WITHIN_PROSE = {"b", "br", "code", "em", "i", "kbd", "strong"}
_DASHBOARD_PROSE = re.compile(r'("(?:title|label|markdown)": )"(?:[^"\\]|\\.)*"')
_VOLATILE = [
    (re.compile(r"'sha256-[A-Za-z0-9+/=]+'"), "'sha256-<hash>'"),
    (re.compile(r"\b(Signature|X-Amz-Date|X-Amz-Credential)=[^&]*"), r"\1=<volatile>"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "<aws>"),
    (re.compile(r";t=\d+$"), ";t=<seconds>"),
    (re.compile(r"^data:.*", re.DOTALL), "<data>"),
]


def reduced(value: Any) -> Any:
    """Return JSON without its prose; text that is JSON itself is read as such."""
    if isinstance(value, dict):
        return {name: _field(name, part) for name, part in value.items()}
    if isinstance(value, list):
        return [reduced(part) for part in value]
    if isinstance(value, str):
        return _text(value)
    return value


def _field(name: str, value: Any) -> Any:
    if isinstance(value, str) and name in _PROSE_FIELDS | _PROSE_WHERE_TEXT:
        return PROSE
    if name == "errors" or value is None:
        return value
    if name == "version":
        return "<version>"
    if name == "job_timestamp" and len(str(value)) == 14:
        return "<time>"
    return reduced(value)


def _text(value: str) -> Any:
    if value.startswith('{"') and value.endswith("}"):
        return {"JSON as text": reduced(json.loads(value))}
    if value.startswith('{"widgets": '):  # CloudWatch's dashboard, with variables in it
        return _DASHBOARD_PROSE.sub(r'\1"<prose>"', value).splitlines()
    if len(value) > 40 and value.startswith(("iVBORw0KGgo", "UklGR", "/9j/")):
        return {"picture in base64": digest(base64.b64decode(value))}
    return steady(value)


def steady(text: str) -> str:
    """Return text with what differs from run to run replaced."""
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return text


def digest(body: bytes) -> str:
    """Return what proves that bytes are the same."""
    return f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()[:32]}"


class _Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _STROKES or (tag in _WITHIN_PROSE and not attrs):
            return
        acts = any(name == "http-equiv" for name, _ in attrs)
        shown = [
            name if value is None else f'{name}="{value if acts else _attribute(name, value)}"'
            for name, value in sorted(attrs)
            if name not in _LEFT_OUT
        ]
        self.lines.append(f"<{' '.join([tag, *shown])}>")


def _attribute(name: str, value: str) -> str:
    return PROSE if name in _PROSE_ATTRIBUTES and value else steady(value)


def outline(html: str) -> list[str]:
    """Return a page's tags in their order, with ids, names, links and data, but without words."""
    parser = _Outline()
    parser.feed(html)
    return parser.lines
