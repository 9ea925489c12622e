"""The first import of a model server's process; the imports after it take seconds.

Importing this module starts reading the weights, pauses the garbage collector and starts the
stopwatch. Call `imported` when the imports are finished.
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
    """Let the collector run again, except over the objects of the imports.

    Returns:
        The seconds since this module was imported.
    """
    gc_pause.freeze()
    _until_imported.close()
    return time.perf_counter() - _began
