"""One line of JSON per event on standard output, which the model server copies to CloudWatch.

Filter by `event`: `model_loaded`, `picture`, `model_unusable`, `generation_failed`,
`out_of_memory`, `speed_given_up`, `lora_unusable`, `loras_unavailable`, `compile_cache_refused`.
"""

from __future__ import annotations

import json
import sys
import traceback


def event(name: str, **fields: object) -> None:
    """Write one event; values that are not JSON are written as `str` of them."""
    # ASCII only: a terminal's or a container's encoding may be anything.
    sys.stdout.write(json.dumps({"event": name, **fields}, default=str) + "\n")
    sys.stdout.flush()


def failure(name: str, error: BaseException) -> None:
    """Write one event that carries an error, its causes and their tracebacks."""
    event(name, error=str(error), traceback="".join(traceback.format_exception(error)))
