"""Addresses of S3 objects as SageMaker writes them, and where it writes results."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LOCATION = re.compile(r"s3://([^/]+)/(.+)")


@dataclass(frozen=True)
class Location:
    """A bucket and a key."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Location:
        """Return the location that `s3://bucket/key` names; raises ValueError otherwise."""
        match = _LOCATION.fullmatch(text)
        if match is None:
            raise ValueError(f"not an S3 object's address: {text}")
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Rule:
    """Where an endpoint's results are written: templates in the words of `str.format`.

    SageMaker's documentation says only that extension and file name are "appended" to the path, so
    every rule is a belief; a client has to read the addresses in the response.

    Their fields are `path`, as configured; `folder`, the same without slashes at its end;
    `extension`, as requested and with one slash behind it, or empty; `file`, as requested, or a
    name of its own; and `id`, which each request has of its own.

    Attributes:
        output: for results.
        failure: for errors; a name of its own for each request is assumed.
    """

    output: str = "{folder}/{extension}{file}"
    failure: str = "{folder}/{id}-error.out"

    def __post_init__(self) -> None:
        try:
            self.place_output("s3://bucket/path", "", "file", "id")
            self.place_failure("s3://bucket/path", "id")
        except (KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"unknown field in the template of an address: {error}") from error

    def place_output(self, path: str, extension: str, file: str, unique: str) -> Location:
        """Return where the result of one request is written."""
        extension = f"{extension.strip('/')}/" if extension else ""
        return _fill(self.output, path, extension=extension, file=file, id=unique)

    def place_failure(self, path: str, unique: str) -> Location:
        """Return where the error of one request is written."""
        return _fill(self.failure, path, id=unique)


def _fill(template: str, path: str, **fields: str) -> Location:
    return Location.parse(template.format(path=path, folder=path.rstrip("/"), **fields))


class Rules:
    """The rules of the endpoints; one that has none has the default."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, Rule] = {}

    def set(self, endpoint: str, rule: Mapping[str, Any]) -> None:
        """Replace an endpoint's rule; an empty one is the default.

        Raises:
            TypeError: for unknown members.
            ValueError: if a template makes no address.
        """
        with self._lock:
            self._rules[endpoint] = Rule(**rule)

    def of(self, endpoint: str) -> Rule:
        """Return an endpoint's rule."""
        with self._lock:
            return self._rules.get(endpoint, Rule())
