"""Values as programs, forms and tables send them: numbers and switches as themselves or as text."""

from __future__ import annotations

from collections.abc import Mapping

from .fields import RULES, InvalidField, Number, Whole

_SWITCHES = {
    **dict.fromkeys(("true", "1", "on", "t", "yes", "y"), True),
    **dict.fromkeys(("false", "0", "off", "f", "no", "n"), False),
}


def with_numbers(data: Mapping[str, object]) -> dict[str, object]:
    """Return the contract's fields, with numbers in place of their text.

    PHP, shells and forms send "20" for 20: a number means the same in JSON as in a query.

    Raises:
        InvalidField: for a text that is no number.
    """
    return {name: _number(name, value) for name, value in data.items()}


def read_whole(value: object, field: str, rule: Whole) -> int:
    """Return a whole number, given as a number or as its text.

    Raises:
        InvalidField: naming `field`, for any other value.
    """
    try:
        return rule.clean(rule.read(value) if isinstance(value, str) else value)
    except ValueError as error:
        raise InvalidField(field, str(error)) from error


def read_switch(value: object, field: str) -> bool:
    """Return true or false, given as itself, as a number or as its text.

    The spellings are pydantic's, with which the web UI reads them:
    https://docs.pydantic.dev/latest/api/standard_library_types/#booleans

    Raises:
        InvalidField: naming `field`, for any other value.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    spelled = str(value).lower() if isinstance(value, bool | int | str) else None
    if spelled not in _SWITCHES:
        raise InvalidField(field, "must be true or false")
    return _SWITCHES[spelled]


def _number(name: str, value: object) -> object:
    rule = RULES.get(name)
    if not isinstance(rule, Whole | Number) or not isinstance(value, str):
        return value
    try:
        return rule.read(value)
    except ValueError as error:
        raise InvalidField(name, str(error)) from error
