"""What a visitor asks for, read from the query or the body of a visit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest, InvalidField
from chalicelib.web.request import Visit


def read_request(visit: Visit, prompt: str) -> GenerationRequest:
    """Return the request that the query's parameters and `prompt` make.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    parameters = visit.parameters()
    if "prompt" in parameters:
        raise InvalidRequest("prompt: stands in the path, not in the query", field="prompt")
    return _from_query({**parameters, "prompt": prompt})


def read_form(visit: Visit) -> GenerationRequest:
    """Return the request that the query alone makes, as an HTML form sends it.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    return _from_query(visit.parameters())


def _from_query(parameters: Mapping[str, str]) -> GenerationRequest:
    try:
        return GenerationRequest.from_query(parameters)
    except InvalidField as error:
        raise InvalidRequest(str(error), field=error.field) from error


def read_body(visit: Visit) -> GenerationRequest:
    """Return the request that stands in the visit's body, as JSON.

    Raises:
        InvalidRequest: if it is no JSON object, or for the first field that is wrong.
    """
    try:
        return GenerationRequest.from_dict(read_json_object(visit))
    except InvalidField as error:
        raise InvalidRequest(str(error), field=error.field) from error


def read_json_object(visit: Visit) -> dict[str, Any]:
    """Return the JSON object in the visit's body; raises InvalidRequest if there is none."""
    try:
        data = json.loads(visit.body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body must be JSON.") from error
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return data
