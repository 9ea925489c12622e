"""The OpenAPI document as a page in plain HTML, which loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from string import Template
from typing import Any

from openapi.document import document
from openapi.schemas import Schema

# Not part of any HTML, until they become placeholders.
_ORIGIN, _ROOT = "\x01", "\x02"


_LINK = '<a href="openapi.json">openapi.json</a>'
_MAIN = """\
  <h1>$heading</h1>
  <p>$about</p>
  <p>$first</p>
  <pre><code>$example</code></pre>
  <p class="faint">$version</p>
  $routes
  <section><h2>$shapes</h2>
  $schemas
  </section>
"""


def page_template() -> str:
    """Return the page's main part: a template of chalicelib/web/pages.py.

    The gateway fills in `$origin` and `$root`, which depend on the request.
    """
    described = document()
    groups = [_group(described, tag["name"]) for tag in described["tags"]]
    schemas = "".join(_schema(*named) for named in described["components"]["schemas"].items())
    text = Template(_MAIN).substitute(
        heading="API reference",
        about=_words(described["info"]["description"]),
        first="A first picture from a terminal:",
        example=escape(f'curl -L -o apple.png "{_ORIGIN}{_ROOT}/inference/a%20red%20apple"'),
        version=f"Version {described['info']['version']}. For programs: {_LINK}, OpenAPI 3.1.",
        routes="".join(groups),
        shapes="Schemas",
        schemas=schemas,
    )
    # Patterns contain dollar signs, which must not become placeholders.
    return text.replace("$", "$$").replace(_ORIGIN, "$origin").replace(_ROOT, "$root")


def _group(described: Schema, name: str) -> str:
    operations = [
        _operation(path, method, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if name in operation["tags"] and method != "head"
    ]
    return f"<section><h2>{escape(name)}</h2>{''.join(operations)}</section>"


def _operation(path: str, method: str, operation: Schema) -> str:
    parameters = [_parameter(parameter) for parameter in operation.get("parameters", [])]
    parts = [_table(("parameter", "in", "values", ""), parameters)] if parameters else []
    if "requestBody" in operation:
        contents = operation["requestBody"]["content"]
        names = {"application/json": "in JSON", "multipart/form-data": "as a form"}
        bodies = (f"{names[kind]}: {_type(one['schema'])}" for kind, one in contents.items())
        parts.append(f"<p>Body, {', or '.join(bodies)}</p>")
    responses = [_response(*pair) for pair in operation["responses"].items()]
    parts.append(_table(("status", "content", "meaning"), responses))
    return (
        f'<details id="{escape(operation["operationId"])}"><summary>'
        f'<code><b class="{method}">{method.upper()}</b> {_ROOT}{escape(path)}</code>'
        f" <span>{_words(operation['summary'])}</span></summary>{''.join(parts)}</details>"
    )


def _parameter(parameter: Schema) -> list[str]:
    name = f"<code>{escape(parameter['name'])}</code>"
    values, meaning = _type(parameter["schema"]), _words(parameter.get("description", ""))
    return [name, escape(parameter["in"]), values, meaning]


def _response(status: str, response: Schema) -> list[str]:
    contents = [
        f"{escape(media_type.partition(';')[0])} {_type(content['schema']) if content else ''}"
        for media_type, content in response.get("content", {}).items()
    ]
    lines = response["description"].splitlines()
    return [status, "<br>".join(contents), "<br>".join(_words(line) for line in lines)]


def _schema(name: str, schema: Schema) -> str:
    fields = [
        [
            f"<code>{escape(field)}</code>",
            "required" if field in schema.get("required", ()) else "",
            _type(values),
            _words(values.get("description", "")),
        ]
        for field, values in schema.get("properties", {}).items()
    ]
    inside = _table(("field", "", "values", ""), fields) if fields else f"<p>{_type(schema)}</p>"
    if "description" in schema:
        inside = f"<p>{_words(schema['description'])}</p>{inside}"
    head = f"<summary><code>{escape(name)}</code></summary>"
    return f'<details id="{escape(name)}">{head}{inside}</details>'


def _type(schema: Schema) -> str:
    """Return a short description of the values of a schema."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="docs#{name}">{name}</a>'
    if "anyOf" in schema:
        # An empty value means the same as none, which need not be listed.
        return " or ".join(_type(option) for option in schema["anyOf"] if option != {"const": ""})
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    for constant in ("const", "enum"):
        if constant in schema:
            values = schema[constant] if constant == "enum" else [schema[constant]]
            return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
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
    """Return a table; its cells are HTML already."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _words(text: str) -> str:
    """Return a sentence as HTML; text in backticks becomes code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
