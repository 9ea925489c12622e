"""Fewer words from the libraries; imported before diffusers, which advises at import already.

Errors are left. Advice, deprecations and progress bars go, since nobody who reads an endpoint's log
can act on them; a line per picture says more.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import transformers

_logging: Any = transformers.utils.logging
_logging.set_verbosity_error()
_logging.disable_progress_bar()


class _Silence:
    """Drops Python warnings for as long as any thread asks for it.

    The filters are the process's, and `warnings.catch_warnings` puts back what it found: two
    threads whose blocks overlap would each end the other's silence. So the first one in saves the
    filters, and the last one out restores them.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._inside = 0
        self._filters: AbstractContextManager[Any] = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._turn:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_silence = _Silence()


def without_warnings() -> AbstractContextManager[None]:
    """Drop Python warnings in a block, which other threads may enter and leave meanwhile."""
    return _silence


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
