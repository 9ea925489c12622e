"""The OpenAPI document as a page: made here, in plain HTML, and nothing loaded from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from typing import Any

from chalicelib.openapi.document import document
from chalicelib.openapi.schemas import Schema
from chalicelib.web.pages import Page, docs_page


def openapi_page(origin: str, root: str) -> Page:
    """Return the page of the gateway at `origin` and `root`, its own public path."""
    described = document(origin + root)
    groups = [_group(described, tag["name"], root) for tag in described["tags"]]
    schemas = "".join(_schema(*each) for each in described["components"]["schemas"].items())
    return docs_page(
        root,
        version=described["info"]["version"],
        about=_words(described["info"]["description"]),
        example=escape(f'curl -L -o apple.png "{origin}{root}/inference/a%20red%20apple"'),
        routes="".join(groups),
        schemas=schemas,
    )


def _group(described: Schema, name: str, root: str) -> str:
    operations = [
        _operation(f"{root}{path}", method, each)
        for path, methods in described["paths"].items()
        for method, each in methods.items()
        if name in each["tags"] and method != "head"
    ]
    return f"<section><h2>{escape(name)}</h2>{''.join(operations)}</section>"


def _operation(path: str, method: str, operation: Schema) -> str:
    taken = [_parameter(each) for each in operation.get("parameters", [])]
    parts = [_table(("parameter", "in", "values", ""), taken)] if taken else []
    if "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].values()
        parts.append(f"<p>Body, in JSON: {_type(content['schema'])}</p>")
    answers = [_answer(*each) for each in operation["responses"].items()]
    parts.append(_table(("status", "what", "meaning"), answers))
    return (
        f'<details id="{escape(operation["operationId"])}"><summary>'
        f'<code><b class="{method}">{method.upper()}</b> {escape(path)}</code>'
        f" <span>{_words(operation['summary'])}</span></summary>{''.join(parts)}</details>"
    )


def _parameter(each: Schema) -> list[str]:
    name = f"<code>{escape(each['name'])}</code>"
    return [name, escape(each["in"]), _type(each["schema"]), _words(each.get("description", ""))]


def _answer(status: str, answer: Schema) -> list[str]:
    kinds = [
        f"{escape(kind.partition(';')[0])} {_type(each['schema']) if each.get('schema') else ''}"
        for kind, each in answer.get("content", {}).items()
    ]
    lines = answer["description"].splitlines()
    return [status, "<br>".join(kinds), "<br>".join(_words(line) for line in lines)]


def _schema(name: str, schema: Schema) -> str:
    fields = [
        [
            f"<code>{escape(field)}</code>",
            "required" if field in schema.get("required", ()) else "",
            _type(each),
            _words(each.get("description", "")),
        ]
        for field, each in schema.get("properties", {}).items()
    ]
    inside = _table(("field", "", "values", ""), fields) if fields else f"<p>{_type(schema)}</p>"
    head = f"<summary><code>{escape(name)}</code></summary>"
    return f'<details id="{escape(name)}">{head}{inside}</details>'


def _type(schema: Schema) -> str:
    """Return in a few words what a value may be."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="docs#{name}">{name}</a>'
    if "anyOf" in schema:
        # Empty is as good as left out, which goes without saying here.
        return " or ".join(_type(each) for each in schema["anyOf"] if each != {"const": ""})
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    for constant in ("const", "enum"):
        if constant in schema:
            found = schema[constant] if constant == "enum" else [schema[constant]]
            return ", ".join(f"<code>{escape(json.dumps(each))}</code>" for each in found)
    kinds = schema.get("type", "any")
    words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    return escape(words + _limits(schema))


def _limits(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    limits = f", {least:,} to {most:,}" if least is not None and most is not None else ""
    if "maxLength" in schema:
        limits += f", {schema.get('minLength', 0)} to {schema['maxLength']:,} characters"
    if "multipleOf" in schema:
        limits += f", multiples of {schema['multipleOf']}"
    left_out = schema.get("x-unset")
    return f"{limits}; else {left_out}" if left_out else limits


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{each}</td>" for each in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _words(text: str) -> str:
    """Return a sentence as HTML; what stands in backticks is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
