"""Takes the place of the gateway's code for a proof's last checks: looks at its folder, and waits.

It runs in Lambda, alone, as `app.py`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# In the log after a wait.
WENT_ON = "easel-proof went on"


def app(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Return what became of a file written into the task folder, after `?seconds=`."""
    query = event.get("queryStringParameters") or {}
    seconds = float(query.get("seconds", 0))
    time.sleep(seconds)
    if seconds:
        print(WENT_ON, flush=True)
    folder = Path(os.environ["LAMBDA_TASK_ROOT"])
    try:
        (folder / "written").write_text("a proof", "utf-8")
        written = ""
    except OSError as error:
        written = os.strerror(error.errno or 0)
    body = {"refused": written, "bytecode": (folder / "__pycache__").exists()}
    headers = {"Content-Type": "application/json"}
    return {"statusCode": 200, "headers": headers, "body": json.dumps(body)}
