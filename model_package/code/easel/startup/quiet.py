"""Silence the libraries' advice; import this before diffusers, which warns during its import.

Errors are still logged. Advice, deprecations and progress bars are dropped, because the reader of
an endpoint's log cannot act on them.
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
# On import: diffusers logs during its own import.
_logging.set_verbosity_error()
_logging.disable_progress_bar()


class _Silence:
    """Drops Python warnings while any thread is in the context.

    The filters belong to the process, and `warnings.catch_warnings` restores those that it met: two
    threads in overlapping blocks would end each other's silence. So the first thread that enters
    saves the filters, and the last one that leaves restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters: AbstractContextManager[Any] = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_silence = _Silence()


def without_warnings() -> AbstractContextManager[None]:
    """A context without Python warnings, also while other threads enter and leave it."""
    return _silence


class Messages(logging.Handler):
    """Collects the messages of diffusers and transformers instead of writing them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def collecting_warnings() -> Iterator[Messages]:
    """Collect the two libraries' logged warnings; not thread-safe."""
    messages = Messages()
    libraries = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    before = [(library, library.handlers, library.level) for library in libraries]
    for library in libraries:  # whose own handlers would still write
        library.handlers = [messages]
        library.setLevel(logging.WARNING)
    try:
        yield messages
    finally:
        for library, handlers, level in before:
            library.handlers = handlers
            library.setLevel(level)
