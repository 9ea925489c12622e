"""Reads a generation request from the query or the body of an HTTP request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from chalicelib.batches import values
from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest, InvalidField, Whole
from chalicelib.web.request import DRY_RUN, Request


def read_query(request: Request, prompt: str) -> GenerationRequest:
    """Return the generation request of a query's parameters and a prompt.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    # Two prompts would be ambiguous, and the one in the path decides the cache entry.
    parameters = request.parameters()
    if "prompt" in parameters:
        raise InvalidRequest("prompt: must be in the path, not in the query string", field="prompt")
    with named_fields():
        return GenerationRequest.from_query({**parameters, "prompt": prompt})


def read_form(request: Request) -> GenerationRequest:
    """Return the generation request of a query alone, as an HTML form sends it.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    with named_fields():
        return GenerationRequest.from_query(request.parameters())


def read_body(data: Mapping[str, object]) -> GenerationRequest:
    """Return the generation request of a JSON body.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    with named_fields():
        return GenerationRequest.from_dict(values.with_numbers(data))


def read_json_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body; raises InvalidRequest for any other body."""
    try:
        data = json.loads(request.body)
    except ValueError as error:
        raise InvalidRequest("The body must be JSON.") from error
    except RecursionError as error:
        raise InvalidRequest("The body must be JSON of fewer levels.") from error
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    _check_text(data)
    return data


def read_whole(value: object, field: str, rule: Whole) -> int:
    """Return a whole number of a JSON body, as a number or as its text.

    Raises:
        InvalidRequest: naming `field`, for any other value.
    """
    with named_fields():
        return values.read_whole(value, field, rule)


def read_dry_run(request: Request, body: dict[str, Any] | None = None) -> bool:
    """Return whether only the price is requested: `dry_run` in the query, or in the body.

    Args:
        request: any.
        body: its JSON object, from which the field is removed; None without one.

    Raises:
        InvalidRequest: naming `dry_run`, for anything other than true or false, and for two of it
            in the query.
    """
    given = list(request.query.get(DRY_RUN, ()))
    if len(given) > 1:
        raise InvalidRequest(f"{DRY_RUN}: is given twice", field=DRY_RUN)
    if body is not None and (value := body.pop(DRY_RUN, None)) is not None:
        given.append(value)
    with named_fields():
        switches = [values.read_switch(value, DRY_RUN) for value in given]  # each is checked
    return any(switches)


def _check_text(data: dict[str, Any]) -> None:
    """Refuse half of a surrogate pair, which JSON can spell and no response or log can contain.

    Raises:
        InvalidRequest: naming the field that has one, unless its own name does.
    """
    for name, value in data.items():
        if not _is_text(name):
            raise InvalidRequest("The name of a field contains half of a surrogate pair.")
        if not _is_text(value):
            message = f"{name[:64]}: contains half of a surrogate pair, which is no character"
            raise InvalidRequest(message, field=name[:64])


def _is_text(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except RecursionError as error:
        raise InvalidRequest("The body must be JSON of fewer levels.") from error
    return True


@contextmanager
def named_fields() -> Iterator[None]:
    """Raise a field's error as InvalidRequest, which names it to the caller."""
    try:
        yield
    except InvalidField as error:
        raise InvalidRequest(str(error), field=error.field) from error
