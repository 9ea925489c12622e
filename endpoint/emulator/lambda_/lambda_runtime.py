"""AWS Lambda: a packaged zip, run by the real Runtime Interface Client."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from endpoint.emulator.account import ACCOUNT, DEFAULT_REGION
from endpoint.emulator.lambda_.lambda_environment import Instance, Result, Settings
from endpoint.emulator.lambda_.unpacked import UnpackedPackage, unpack

# Lambda's name of the Python that runs the instances: this one.
RUNTIME = "python{}.{}".format(*sys.version_info)


class TooManyRequests(Exception):
    """All instances that the function may have are busy (HTTP 429)."""


class LambdaFunction:
    """A function that exists while the context lasts.

    Args:
        package: the zip that `chalice package` made, or a folder with the same content.
        environment: the function's own variables. Of this process's environment only PATH is
            added.
        handler: module and function.
        timeout: seconds that an invocation may take; then its instance is killed.
        memory_size: shown to the function in its environment, and not enforced.
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
        self._idle: list[Instance] = []
        self._all: list[Instance] = []
        self._busy = 0
        self._unpacked: UnpackedPackage | None = None
        self.folder = Path()

    def __enter__(self) -> LambdaFunction:
        if self._package.is_dir():
            self.folder = self._package.resolve()
        else:
            self._unpacked = unpack(self._package)
            self.folder = self._unpacked.folder
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for instance in self._all:
            instance.close()
        self._unpacked = None

    def _settings(self) -> Settings:
        variables = self.environment()
        return Settings(
            name=self.name,
            arn=f"arn:aws:lambda:{variables['AWS_REGION']}:{ACCOUNT}:function:{self.name}",
            folder=self.folder,
            handler=self.handler,
            timeout=self.timeout,
            variables=variables,
            output=self.output,
        )

    def environment(self) -> dict[str, str]:
        """Return the environment variables of an instance."""
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
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{RUNTIME}",
            "LAMBDA_TASK_ROOT": str(self.folder),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            # The interpreter of the instance is found on it.
            "PATH": os.environ["PATH"],
            # Last: a test may set other credentials or another region.
            **self._given,
            # Reserved by Lambda: a function's own variable cannot replace it.
            # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
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
                    # An instance that was killed for its timeout, or exited, is not reused.
                    self._idle.append(instance)
        return result

    def _acquire(self) -> tuple[Instance, bool]:
        with self._lock:
            if self._idle:
                self._busy += 1
                return self._idle.pop(), False
            if self._busy >= self.concurrency:
                raise TooManyRequests("Rate Exceeded.")
            self._busy += 1
            instance = Instance(self._settings())
            self._all.append(instance)
            return instance, True

    @property
    def busy(self) -> int:
        """How many instances work on an event now."""
        return self._busy

    @property
    def pids(self) -> list[int]:
        """The process ids of the living instances, for measuring or limiting them."""
        return [instance.pid for instance in list(self._all) if instance.alive()]

    def max_rss(self) -> int:
        """Return the largest peak of resident memory of the living instances, in bytes."""
        return max((instance.max_rss() for instance in self._all if instance.alive()), default=0)


__all__ = ["LambdaFunction", "Result", "TooManyRequests"]
