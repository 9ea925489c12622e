"""How the other modules of this folder change moto's classes, and what those use meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


def replace(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Any]) -> None:
    """Put `wrap(original)` in the place of a method or function."""
    setattr(owner, name, wrap(getattr(owner, name)))


class InUse(Generic[Value]):
    """What moto's changed classes use, for the whole process, as there is one moto.

    Args:
        default: the value outside all contexts of `use`.
    """

    def __init__(self, default: Value) -> None:
        self._values = [default]

    @property
    def value(self) -> Value:
        """The value of the context that began last."""
        return self._values[-1]

    @contextmanager
    def use(self, value: Value) -> Iterator[None]:
        """Use a value while the context lasts."""
        self._values.append(value)
        try:
            yield
        finally:
            self._values.remove(value)
