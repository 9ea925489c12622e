"""Responses checked against the OpenAPI document."""

from typing import Any

import jsonschema

from openapi.document import document

DOCUMENT = document()


def as_documented(body: Any, name: str) -> Any:
    """Check JSON against a schema of the document, and return it."""
    schema = {**DOCUMENT["components"]["schemas"][name], "components": DOCUMENT["components"]}
    jsonschema.validate(body, schema)
    return body
