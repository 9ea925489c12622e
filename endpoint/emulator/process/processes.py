"""Child processes of the emulator, none of which outlives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from endpoint.emulator.process.orphans import WATCHED

ROOT = Path(__file__).parents[3]

LARGEST_PORT = 65_535

# Long enough for a server to close its sockets; after that the process is killed.
GRACE_SECONDS = 5.0


class ChildEnded(RuntimeError):
    """A child process ended before it was stopped."""


class Child:
    """A module of this package in a process of its own, ended with `stop` or with its parent.

    The module must call `orphans.end_with_parent()` first. It runs in the repository's root, in a
    session of its own, so that Ctrl-C reaches the parent alone, which then stops its children in
    order.

    Attributes:
        name: its name in messages.
        process: the running process.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        output: IO[bytes] | int | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.process = subprocess.Popen(  # noqa: S603 - our own module, with arguments as a list
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**(os.environ if environment is None else environment), WATCHED: "1"},
            # The child ends when this pipe closes; see `orphans`.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            pass_fds=tuple(keep_open),
            start_new_session=True,
        )

    def check(self) -> None:
        """Raise ChildEnded if the process is gone."""
        code = self.process.poll()
        if code is not None:
            raise ChildEnded(f"{self.name} has ended {_how(code)}")

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Poll `ready` until it is true; raises ChildEnded, or TimeoutError after `seconds`."""
        until = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name} was not ready after {seconds:g} s")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask the process to end, kill its whole session if it does not, and wait for it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()

    def kill(self) -> None:
        """Kill the process and everything it started; safe to call from several threads."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended, and been waited for
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _how(code: int) -> str:
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"


def port_is_free(port: int) -> bool:
    """Return whether a server could listen on 127.0.0.1:`port` now; 0 means any port."""
    with socket.socket() as probe:
        # As the servers do, so that a port whose last connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
