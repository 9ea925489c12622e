"""Python's garbage collector, kept from looking at what it cannot collect.

It looks through all objects again and again while their number grows, and imports make 700,000 that
stay: a quarter of the imports' time goes to that. So it pauses during imports and loading, and
afterwards leaves what is there alone ("freezes" it), so that later rounds look at new objects only.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Keep the collector from running in a block; it may be entered inside itself."""
    ran = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ran:
            gc.enable()


def leave_alone() -> None:
    """Keep the collector from ever looking at the objects that are there now.

    Cycles among them that nothing refers to are kept, too; `gc.collect()` before it removes those.
    """
    gc.freeze()
