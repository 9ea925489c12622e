"""Responses checked against the OpenAPI document."""

import json
from typing import Any

import jsonschema
from chalice.test import HTTPResponse

from openapi.document import document

DOCUMENT = document()


def as_documented(body: Any, name: str) -> Any:
    """Check JSON against a schema of the document, and return it."""
    schema = {**DOCUMENT["components"]["schemas"][name], "components": DOCUMENT["components"]}
    jsonschema.validate(body, schema)
    return body


def response_as_documented(path: str, method: str, response: HTTPResponse) -> Any:
    """Return the JSON of a response, checked against what the document has under its status."""
    described = DOCUMENT["paths"][path][method]["responses"][str(response.status_code)]
    schema = described["content"]["application/json"]["schema"]
    body = json.loads(response.body)
    jsonschema.validate(body, {**schema, "components": DOCUMENT["components"]})
    return body
