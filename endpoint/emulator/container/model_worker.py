"""The process inside the model server that holds the model: one request at a time.

Started by `model_server` with a socket's descriptor as its argument. Its environment is the
container's.
"""

from __future__ import annotations

import logging
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from endpoint.emulator.container.default_script import TASK, default_script, load_diffusers
from endpoint.emulator.container.toolkit import HandlerService, add_code
from endpoint.emulator.process.orphans import end_with_parent


def main() -> None:
    """Load the model, report it, and then serve requests from the pipe until it closes."""
    end_with_parent()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    pipe = Connection(int(sys.argv[1]))
    model_dir = Path(sys.argv[2])
    code = sys.argv[3]
    # A container has nothing of this repository but its own code.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", str(Path.cwd()))]
    add_code(code)
    default = default_script(load_diffusers) if os.environ.get("HF_TASK") == TASK else None
    program = os.environ.get("SAGEMAKER_PROGRAM", "inference.py")
    service = HandlerService(str(model_dir), program, default)
    try:
        service.initialize()
    except Exception:
        # Logged and swallowed as in the model server's `model_loader.py`: the worker counts as
        # ready, and each request tries to load again.
        logging.getLogger(__name__).exception("Load model failed")
    pipe.send("loaded")
    while True:
        try:
            headers, body = pipe.recv()
        except EOFError:
            return
        answer = service.handle(headers, body)
        pipe.send((answer.status, answer.headers, answer.body))


if __name__ == "__main__":
    main()
