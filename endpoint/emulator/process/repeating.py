"""Work that a thread does again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(work: Callable[[], None], pause: Callable[[], float], name: str) -> Iterator[None]:
    """Do some work in a thread while the context lasts; what has begun ends before it does.

    Args:
        work: what to do.
        pause: returns the seconds before the work, each time.
        name: of the thread.
    """
    closed = threading.Event()

    def run() -> None:
        while not closed.wait(pause()):
            work()

    thread = threading.Thread(target=run, daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join()
