"""AWS Lambda: a packaged zip, run by the real Runtime Interface Client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from endpoint.emulator.control_plane import ACCOUNT, DEFAULT_REGION
from endpoint.emulator.lambda_api import Invocation, RuntimeApi
from endpoint.emulator.processes import Child

# Lambda's quota for a synchronous response: 6 MB and room for its envelope.
LONGEST_RESPONSE = 6_291_556


class TooManyRequests(Exception):
    """All of the function's instances are busy and it may have no more (HTTP 429)."""


@dataclass(frozen=True)
class Result:
    """What one invocation came to.

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


class LambdaFunction:
    """A function that exists while the context lasts.

    Args:
        package: the zip that `chalice package` made, or a folder with the same content.
        environment: the function's own variables. Nothing of this process's environment reaches
            it beside them and PATH.
        handler: module and function.
        timeout: seconds that an invocation may take; then its instance is killed.
        memory_size: told to the function, and not enforced.
        concurrency: the most instances, each of which works on one event at a time.
        output: where the function's log goes; None for this process's standard output.
    """

    def __init__(
        self,
        package: Path,
        environment: Mapping[str, str] | None = None,
        *,
        name: str = "easel",
        handler: str = "app.app",
        timeout: float = 60,
        memory_size: int = 128,
        concurrency: int = 10,
        output: IO[bytes] | int | None = None,
    ) -> None:
        self.name, self.handler, self.timeout = name, handler, timeout
        self.concurrency, self.output = concurrency, output
        self._package = package
        self._given = dict(environment or {})
        self._memory_size = memory_size
        self._lock = threading.Lock()
        self._idle: list[_Instance] = []
        self._all: list[_Instance] = []
        self._busy = 0
        self._stack = ExitStack()
        self.folder = Path()

    def __enter__(self) -> LambdaFunction:
        if self._package.is_dir():
            self.folder = self._package.resolve()
        else:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            with zipfile.ZipFile(self._package) as archive:
                archive.extractall(self.folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for instance in self._all:
            instance.close()
        self._stack.close()

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.environment()['AWS_REGION']}:{ACCOUNT}:function:{self.name}"

    def environment(self) -> dict[str, str]:
        """Return the variables that an instance gets."""
        region = self._given.get("AWS_REGION") or self._given.get("AWS_DEFAULT_REGION")
        return {
            "AWS_REGION": region or DEFAULT_REGION,
            "AWS_DEFAULT_REGION": region or DEFAULT_REGION,
            "AWS_ACCESS_KEY_ID": "easel-emulator",
            "AWS_SECRET_ACCESS_KEY": "easel-emulator",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._memory_size),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "emulator",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
            "LAMBDA_TASK_ROOT": str(self.folder),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PATH": os.environ["PATH"],
            **self._given,
            "_HANDLER": self.handler,
        }

    def invoke(self, event: Any) -> Result:
        """Run the handler on `event` in a warm instance, or else in a new one.

        Raises:
            TooManyRequests: when `concurrency` instances are busy.
        """
        instance, cold = self._acquire()
        try:
            result = instance.run(json.dumps(event).encode("utf-8"), cold=cold)
        finally:
            with self._lock:
                self._busy -= 1
                if instance.alive():
                    self._idle.append(instance)
        return result

    def _acquire(self) -> tuple[_Instance, bool]:
        with self._lock:
            if self._idle:
                self._busy += 1
                return self._idle.pop(), False
            if self._busy >= self.concurrency:
                raise TooManyRequests("Rate Exceeded.")
            self._busy += 1
            instance = _Instance(self)
            self._all.append(instance)
            return instance, True

    @property
    def busy(self) -> int:
        """How many instances work on an event now."""
        return self._busy

    def max_rss(self) -> int:
        """Return the largest peak of resident memory of the living instances, in bytes."""
        return max((instance.max_rss() for instance in self._all if instance.alive()), default=0)


class _Instance:
    """One execution environment."""

    def __init__(self, function: LambdaFunction) -> None:
        self._function = function
        self._stack = ExitStack()
        self._api = self._stack.enter_context(RuntimeApi().serve())
        self._started = time.monotonic()
        self._child = Child(
            f"the function {function.name}",
            "endpoint.emulator.lambda_instance",
            [str(function.folder), function.handler],
            environment={**function.environment(), "AWS_LAMBDA_RUNTIME_API": self._api.address},
            output=function.output,
        )

    def alive(self) -> bool:
        return self._child.process.poll() is None

    def close(self) -> None:
        self._child.kill()
        self._stack.close()

    def run(self, event: bytes, *, cold: bool) -> Result:
        limit = self._function.timeout
        self._wait(lambda: self._api.asked is not None or self._api.init_error is not None, None)
        started = time.monotonic()
        deadline = int((time.time() + limit) * 1000)
        invocation = Invocation(str(uuid.uuid4()), event, deadline, self._function.arn)
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
                f"{self._function.timeout:.2f} seconds"
            }
        ending = f"exit status {code}" if code >= 0 else f"signal: {-code}"
        message = f"RequestId: {invocation.id} Error: Runtime exited with error: {ending}"
        return _error(message, "Runtime.ExitError")

    def max_rss(self) -> int:
        pid = self._child.process.pid
        status = Path(f"/proc/{pid}/status")
        if status.exists():
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            return int(found.group(1)) * 1024 if found else 0
        # macOS keeps no peak: what is resident now.
        shown = subprocess.run(  # noqa: S603 - a fixed command
            ["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return int(shown.stdout or 0) * 1024


def _error(message: str, kind: str) -> dict[str, Any]:
    return {"errorMessage": message, "errorType": kind}
