"""The first thing that a model server's process imports, since what follows takes seconds.

Importing this module starts to read the weights, stops the garbage collector and starts the clock.
`imported` says that the imports are over.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import easel.startup.read_ahead  # noqa: F401 - importing it starts it
from easel.startup import gc_pause

_began = time.perf_counter()
_until_imported = ExitStack()
_until_imported.enter_context(gc_pause.paused())


def imported() -> float:
    """Let the collector run again, without a look at what was imported.

    Returns:
        The seconds since this module was imported.
    """
    gc_pause.leave_alone()
    _until_imported.close()
    return time.perf_counter() - _began
