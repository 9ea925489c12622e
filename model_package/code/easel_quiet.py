"""Fewer words from the libraries; imported before diffusers, which advises at import already.

Errors are left. Advice, deprecations and progress bars go, since nobody who reads an endpoint's log
can act on them; a line per picture says more.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers

_logging: Any = transformers.utils.logging
_logging.set_verbosity_error()
_logging.disable_progress_bar()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Drop Python warnings; not for use by two threads at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Notes(logging.Handler):
    """Keeps what diffusers and transformers would have said, instead of saying it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def noting_warnings() -> Iterator[Notes]:
    """Collect the two libraries' logged warnings; not for use by two threads at once."""
    notes, libraries = Notes(), [logging.getLogger(name) for name in ("diffusers", "transformers")]
    before = [(library, library.handlers, library.level) for library in libraries]
    for library in libraries:
        library.handlers = [notes]
        library.setLevel(logging.WARNING)
    try:
        yield notes
    finally:
        for library, handlers, level in before:
            library.handlers = handlers
            library.setLevel(level)
