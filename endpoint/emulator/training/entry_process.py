"""The container of a training job: its entry point as a process of this one.

    python -m endpoint.emulator.training.entry_process '{"command": [...], ...}'

As in a container, SIGTERM reaches the entry point alone, whose exit code is the container's. Both
processes are a session of their own, which ends with the emulator, however that ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

from endpoint.emulator.process.orphans import WATCHED


def main() -> int:
    """Run the entry point; return its exit code, or 128 and the number of its signal."""
    run = json.loads(sys.argv[1])
    os.environ.pop(WATCHED, None)
    threading.Thread(target=_end_with_parent, daemon=True, name="parent").start()
    entry: list[subprocess.Popen[bytes]] = []
    stopped: list[int] = []

    def forward(number: int, _: object) -> None:
        stopped.append(number)
        for process in entry:
            process.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    try:
        process = subprocess.Popen(  # noqa: S603 - what the job asks for, with arguments as a list
            run["command"], cwd=run["folder"], env=run["environment"], stdin=subprocess.DEVNULL
        )
    except OSError as error:
        # The shell's code for a command that cannot be started.
        print(f"{run['command'][0]}: {error.strerror}", flush=True)
        return 127
    entry.append(process)
    # A signal that came before the process was there.
    if stopped:
        with suppress(ProcessLookupError):
            process.send_signal(stopped[0])
    code = process.wait()
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
