"""How the other modules of this folder change moto's classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def replace(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Any]) -> None:
    """Put `wrap(original)` in the place of a method or function."""
    setattr(owner, name, wrap(getattr(owner, name)))
