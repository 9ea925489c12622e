"""The first thing that a model server's process imports, since what follows takes seconds.

Importing this module starts to read the weights, stops the garbage collector and starts the clock.
`imported` says that the imports are over.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import easel_collector
import easel_read_ahead  # noqa: F401 - importing it starts it

_began = time.perf_counter()
_until_imported = ExitStack()
_until_imported.enter_context(easel_collector.paused())


def imported() -> float:
    """Let the collector run again, without a look at what was imported.

    Returns:
        The seconds since this module was imported.
    """
    easel_collector.leave_alone()
    _until_imported.close()
    return time.perf_counter() - _began
