"""The log of a training job in CloudWatch: /aws/sagemaker/TrainingJobs, <job>/algo-1-<number>."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

GROUP = "/aws/sagemaker/TrainingJobs"
# PutLogEvents' limits are 10,000 events and 1 MB; lines are cut at the limit of an event.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_EVENTS, _LONGEST_LINE = 1_000, 256 * 1024 - 26


class JobLog:
    """Sends the lines of a file as they appear. A role without the right to do so logs nothing."""

    def __init__(self, logs: Any, job: str, file: Path) -> None:
        self._logs, self._file = logs, file
        self._stream = {
            "logGroupName": GROUP,
            "logStreamName": f"{job}/algo-1-{int(time.time())}",
        }
        self._read = 0
        self._is_there = False

    def send(self, *, rest: bool = False) -> None:
        """Send the whole lines since the last time; `rest` sends one without an end as well."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        end = len(new) if rest else new.rfind(b"\n") + 1
        self._read += end
        lines = [line for line in new[:end].decode("utf-8", "replace").splitlines() if line.strip()]
        for first in range(0, len(lines), _EVENTS):
            with suppress(ClientError):
                self._put(lines[first : first + _EVENTS])

    def _put(self, lines: list[str]) -> None:
        if not self._is_there:
            self._create()
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line[:_LONGEST_LINE]} for line in lines]
        self._logs.put_log_events(**self._stream, logEvents=events)

    def _create(self) -> None:
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):
            self._logs.create_log_group(logGroupName=GROUP)
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):
            self._logs.create_log_stream(**self._stream)
        self._is_there = True
