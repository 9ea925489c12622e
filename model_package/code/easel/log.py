"""One line of JSON per event on standard output, which the model server copies to CloudWatch.

Whoever reads the log can filter by `event`: `model_loaded`, `picture`, `model_unusable`,
`generation_failed`, `out_of_memory`.
"""

from __future__ import annotations

import json
import sys
import traceback


def event(name: str, **fields: object) -> None:
    """Write one event; values that JSON does not know are written as their text."""
    # ASCII only: a terminal's or a container's encoding may be anything.
    sys.stdout.write(json.dumps({"event": name, **fields}, default=str) + "\n")
    sys.stdout.flush()


def failure(name: str, error: BaseException) -> None:
    """Write one event that carries an error, its causes and their tracebacks."""
    event(name, error=str(error), traceback="".join(traceback.format_exception(error)))
