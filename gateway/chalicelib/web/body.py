"""Reads a generation request from the query or the body of an HTTP request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from chalicelib.errors import InvalidRequest
from chalicelib.generation import RULES, GenerationRequest, InvalidField, Number, Whole
from chalicelib.web.request import DRY_RUN, Request

_SWITCHES = {
    **dict.fromkeys(("true", "1", "on", "t", "yes", "y"), True),
    **dict.fromkeys(("false", "0", "off", "f", "no", "n"), False),
}


def read_query(request: Request, prompt: str) -> GenerationRequest:
    """Return the generation request of a query's parameters and a prompt.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    # Two prompts would be ambiguous, and the one in the path decides the cache entry.
    parameters = request.parameters()
    if "prompt" in parameters:
        raise InvalidRequest("prompt: must be in the path, not in the query string", field="prompt")
    with _named_fields():
        return GenerationRequest.from_query({**parameters, "prompt": prompt})


def read_form(request: Request) -> GenerationRequest:
    """Return the generation request of a query alone, as an HTML form sends it.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    with _named_fields():
        return GenerationRequest.from_query(request.parameters())


def read_body(data: Mapping[str, object]) -> GenerationRequest:
    """Return the generation request of a JSON body.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    with _named_fields():
        return GenerationRequest.from_dict(with_numbers(data))


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


def with_numbers(data: Mapping[str, object]) -> dict[str, object]:
    """Return the contract's fields, with numbers in place of their text.

    PHP, shells and forms send "20" for 20: a number means the same in JSON as in a query.

    Raises:
        InvalidField: for a text that is no number.
    """
    return {name: _number(name, value) for name, value in data.items()}


def read_whole(value: object, field: str, rule: Whole) -> int:
    """Return a whole number of a JSON body, as a number or as its text.

    Raises:
        InvalidRequest: naming `field`, for any other value.
    """
    try:
        return rule.clean(rule.read(value) if isinstance(value, str) else value)
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}", field=field) from error


def read_switch(value: object, field: str) -> bool:
    """Return true or false of a JSON body, as itself, as a number or as its text.

    The spellings are pydantic's, with which the web UI reads them:
    https://docs.pydantic.dev/latest/api/standard_library_types/#booleans

    Raises:
        InvalidRequest: naming `field`, for any other value.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    spelled = str(value).lower() if isinstance(value, bool | int | str) else None
    if spelled not in _SWITCHES:
        raise InvalidRequest(f"{field}: must be true or false", field=field)
    return _SWITCHES[spelled]


def read_dry_run(request: Request, body: dict[str, Any] | None = None) -> bool:
    """Return whether only the price is requested: `dry_run` in the query, or in the body.

    Args:
        request: any.
        body: its JSON object, from which the field is removed; None without one.

    Raises:
        InvalidRequest: naming `dry_run`, for anything other than true or false.
    """
    values = list(request.query.get(DRY_RUN, ()))
    if body is not None and (value := body.pop(DRY_RUN, None)) is not None:
        values.append(value)
    switches = [read_switch(value, DRY_RUN) for value in values]  # all of them are checked
    return any(switches)


def _number(name: str, value: object) -> object:
    rule = RULES.get(name)
    if not isinstance(rule, Whole | Number) or not isinstance(value, str):
        return value
    try:
        return rule.read(value)
    except ValueError as error:
        raise InvalidField(name, str(error)) from error


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
def _named_fields() -> Iterator[None]:
    """Raise a field's error as InvalidRequest, which names it to the caller."""
    try:
        yield
    except InvalidField as error:
        raise InvalidRequest(str(error), field=error.field) from error
