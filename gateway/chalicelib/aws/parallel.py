"""Several calls to AWS at once: botocore blocks, so each needs a thread of its own to wait in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

_MOST_AT_ONCE = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item]) -> tuple[Result, ...]:
    """Do the work for all items, 16 at once; the first error is raised."""
    # A thread costs more than it saves for one item.
    if len(items) <= 1:
        return tuple(work(item) for item in items)
    with ThreadPoolExecutor(min(len(items), _MOST_AT_ONCE)) as pool:
        # With the deadline of the request, which a new thread does not have.
        runs = [pool.submit(copy_context().run, work, item) for item in items]
        return tuple(run.result() for run in runs)
