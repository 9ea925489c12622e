"""The limits of single fields, which AWS's services check and botocore's clients mostly do not.

They are in botocore's service model: lengths, ranges, patterns, values of enumerations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from moto.core.utils import get_service_model
from moto.sagemaker.exceptions import ValidationError


def check(operation: str, request: dict[str, Any]) -> None:
    """Refuse a request of SageMaker's as AWS words it.

    Raises:
        ValidationError: with all problems of its fields.
    """
    shape = get_service_model("sagemaker").operation_model(operation).input_shape
    problems = list(_problems(shape, request, ""))
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: "
        raise ValidationError(message=count + "; ".join(problems))


def _problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    yield from _CHECKS.get(shape.type_name, _nothing)(shape, value, path)


def _nothing(_: Any, __: Any, ___: str) -> Iterator[str]:
    yield from ()


def _structure(shape: Any, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield _problem(None, _below(path, name), "Member must not be null")
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _problems(member, value[name], _below(path, name))


def _list(shape: Any, value: list[Any], path: str) -> Iterator[str]:
    yield from _size(shape, value, path)
    for number, item in enumerate(value, 1):
        yield from _problems(shape.member, item, f"{path}.{number}.member")


def _map(shape: Any, value: dict[str, Any], path: str) -> Iterator[str]:
    yield from _size(shape, value, path)
    for key, item in value.items():
        yield from _problems(shape.key, key, f"{path}.key")
        yield from _problems(shape.value, item, f"{path}.{key}.member")


def _below(path: str, name: str) -> str:
    own = name[:1].lower() + name[1:]
    return f"{path}.{own}" if path else own


def _size(shape: Any, value: Any, path: str) -> Iterator[str]:
    limits = shape.metadata
    if len(value) > limits.get("max", len(value)):
        kind = f"Member must have length less than or equal to {limits['max']}"
        yield _problem(value, path, kind)
    if len(value) < limits.get("min", 0):
        kind = f"Member must have length greater than or equal to {limits['min']}"
        yield _problem(value, path, kind)


def _text(shape: Any, value: str, path: str) -> Iterator[str]:
    yield from _size(shape, value, path)
    pattern = shape.metadata.get("pattern")
    if pattern and not _compiled(pattern).fullmatch(value):
        kind = f"Member must satisfy regular expression pattern: {pattern}"
        yield _problem(value, path, kind)
    values = shape.metadata.get("enum")
    if values and value not in values:
        yield _problem(value, path, f"Member must satisfy enum value set: [{', '.join(values)}]")


def _range(shape: Any, value: float, path: str) -> Iterator[str]:
    limits = shape.metadata
    if value > limits.get("max", value):
        kind = f"Member must have value less than or equal to {limits['max']}"
        yield _problem(value, path, kind)
    if value < limits.get("min", value):
        kind = f"Member must have value greater than or equal to {limits['min']}"
        yield _problem(value, path, kind)


def _problem(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else str(value)
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


_CHECKS: dict[str, Callable[[Any, Any, str], Iterator[str]]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _text,
    **dict.fromkeys(("integer", "long", "float", "double"), _range),
}


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # Java's classes of characters, which Python does not have.
    return re.compile(
        pattern.replace("\\p{L}", "\\w").replace("\\p{Z}", " ").replace("\\p{N}", "0-9")
    )
