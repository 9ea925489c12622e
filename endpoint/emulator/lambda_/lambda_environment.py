"""A Lambda execution environment, from its start to its timeout."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from endpoint.emulator.lambda_.lambda_api import Invocation, RuntimeApi
from endpoint.emulator.process.orphans import CAN_END_STOPPED
from endpoint.emulator.process.processes import Child

# Lambda's quota for a synchronous response: 6 MB and room for its envelope.
# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
LONGEST_RESPONSE = 6_291_556


@dataclass(frozen=True)
class Settings:
    """The settings that all instances of a function share.

    Attributes:
        folder: the unpacked package.
        timeout: seconds that an invocation may take.
        variables: the environment, all of it.
        output: where the log goes; None for this process's standard output.
    """

    name: str
    arn: str
    folder: Path
    handler: str
    timeout: float
    variables: Mapping[str, str]
    output: IO[bytes] | int | None


@dataclass(frozen=True)
class Result:
    """The outcome of one invocation.

    Attributes:
        payload: the handler's result, or the error as Lambda describes it (errorMessage,
            errorType, stackTrace).
        error: "Unhandled" if the function failed, else None: Lambda's X-Amz-Function-Error.
        duration: seconds from the event to the result, without the init.
        init_duration: seconds from the start of the process to its first request for an event;
            None unless this invocation was a cold start.
        size: the length of the response in bytes.
    """

    payload: Any
    error: str | None
    duration: float
    init_duration: float | None
    size: int


class Instance:
    """A process of the Runtime Interface Client, which takes one event at a time.

    Between events it is stopped, as Lambda freezes it: no thread of it runs, and its clock goes on.
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._api = self._stack.enter_context(RuntimeApi(self._freeze, self._thaw).serve())
        self._started = time.monotonic()
        self._child = Child(
            f"the function {settings.name}",
            "endpoint.emulator.lambda_.lambda_instance",
            [str(settings.folder), settings.handler],
            environment={**settings.variables, "AWS_LAMBDA_RUNTIME_API": self._api.address},
            output=settings.output,
        )

    def _freeze(self) -> None:
        # Otherwise it would stay, stopped, when this process is killed.
        if CAN_END_STOPPED:
            self._send(signal.SIGSTOP)

    def _thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            self._child.process.send_signal(number)

    def alive(self) -> bool:
        """Return whether the process is there."""
        return self._child.process.poll() is None

    def close(self) -> None:
        """End the process and its Runtime API."""
        self._child.kill()
        self._stack.close()

    def run(self, event: bytes, *, cold: bool) -> Result:
        """Send the handler one event, and wait for its result or its end."""
        limit = self._settings.timeout
        # Lambda's limit of 10 s for the init is not imitated.
        self._wait(lambda: self._api.asked is not None or self._api.init_error is not None, None)
        started = time.monotonic()
        # The wall clock: the handler compares it with its own (get_remaining_time_in_millis).
        deadline = int((time.time() + limit) * 1000)
        invocation = Invocation(str(uuid.uuid4()), event, deadline, self._settings.arn)
        if self._api.init_error is None:
            self._api.put(invocation)
            self._wait(invocation.done.is_set, limit, invocation.done)
        payload, failed = self._outcome(invocation)
        return Result(
            payload=payload,
            error="Unhandled" if failed else None,
            duration=time.monotonic() - started,
            init_duration=self._api.asked - self._started if cold and self._api.asked else None,
            size=len(invocation.payload),
        )

    def _wait(
        self, done: Callable[[], bool], limit: float | None, event: threading.Event | None = None
    ) -> None:
        """Wait until `done`, the process has ended, or `limit` seconds have passed."""
        until = None if limit is None else time.monotonic() + limit
        pause = event or threading.Event()
        while not done() and self.alive():
            # The process may exit without a request, so its state is polled.
            left = 0.02 if until is None else min(0.02, until - time.monotonic())
            if left <= 0:
                return
            pause.wait(left)

    def _outcome(self, invocation: Invocation) -> tuple[Any, bool]:
        if self._api.init_error is not None:
            self.close()
            return self._api.init_error, True
        if not invocation.done.is_set():
            return self._broken(invocation), True
        if len(invocation.payload) > LONGEST_RESPONSE:
            message = (
                f"Response payload size ({len(invocation.payload)} bytes) exceeded maximum "
                f"allowed payload size ({LONGEST_RESPONSE} bytes)."
            )
            return _error(message, "Function.ResponseSizeTooLarge"), True
        return json.loads(invocation.payload), invocation.failed

    def _broken(self, invocation: Invocation) -> dict[str, Any]:
        code = self._child.process.poll()
        self.close()
        if code is None:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
            return {
                "errorMessage": f"{now}Z {invocation.id} Task timed out after "
                f"{self._settings.timeout:.2f} seconds"
            }
        ending = f"exit status {code}" if code >= 0 else f"signal: {-code}"
        message = f"RequestId: {invocation.id} Error: Runtime exited with error: {ending}"
        return _error(message, "Runtime.ExitError")

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.process.pid

    def max_rss(self) -> int:
        """Return the peak of the process's resident memory in bytes."""
        pid = self.pid
        status = Path(f"/proc/{pid}/status")
        if status.exists():
            peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            return int(peak.group(1)) * 1024 if peak else 0
        # macOS keeps no peak: what is resident now.
        shown = subprocess.run(  # noqa: S603 - a fixed command
            ["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return int(shown.stdout or 0) * 1024


def _error(message: str, kind: str) -> dict[str, Any]:
    return {"errorMessage": message, "errorType": kind}
