"""A training job as DescribeTrainingJob shows it.

    InProgress   Starting, Downloading, Training, Interrupted, Uploading
    Stopping     Stopping
    Completed, Failed
    Stopped      Stopped, MaxRuntimeExceeded, MaxWaitTimeExceeded

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

IN_PROGRESS, STOPPING = "InProgress", "Stopping"
COMPLETED, FAILED, STOPPED = "Completed", "Failed", "Stopped"
ENDED = {COMPLETED, FAILED, STOPPED}

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SecondaryStatusTransition.html and,
# for `Interrupted`, the managed spot guide.
_MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "Training job interrupted",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}
# Fields of the request that DescribeTrainingJob does not repeat.
_HIDDEN = {"Tags", "TrainingJobName"}
_LONGEST_REASON = 1_024


class Record:
    """The states of one job, with their times.

    Args:
        request: CreateTrainingJob's.
        arn: the job's.
        date: returns the emulated moment in seconds since 1970.
        billed_share: of a spot job's time.
        changed: called after each change of status.
    """

    def __init__(
        self,
        request: dict[str, Any],
        arn: str,
        date: Callable[[], float],
        billed_share: float,
        changed: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self.request, self.arn = request, arn
        self.name: str = request["TrainingJobName"]
        self.is_spot = bool(request.get("EnableManagedSpotTraining"))
        self._date, self._changed = date, changed
        self._share = billed_share if self.is_spot else 1.0
        # The job's thread changes it while requests read it.
        self._lock = threading.Lock()
        self.created = self._modified = date()
        self.status = IN_PROGRESS
        self.failure_reason = ""
        self.artifacts = ""
        self._transitions: list[dict[str, Any]] = []
        self._on_instance: float | None = None
        self._first_on_instance: float | None = None
        self._ended: float | None = None
        self._training_seconds = 0.0

    @property
    def secondary_status(self) -> str:
        return str(self._transitions[-1]["Status"]) if self._transitions else "Starting"

    def enter(self, secondary: str, *, status: str = IN_PROGRESS, reason: str = "") -> bool:
        """Begin a secondary status; returns False if the job has ended, or is stopping already."""
        with self._lock:
            if self.status in ENDED or (self.status == STOPPING and status not in ENDED):
                return False
            now = self._modified = self._date()
            if self._transitions:
                self._transitions[-1]["EndTime"] = now
            message = _MESSAGES[secondary]
            transition = {"Status": secondary, "StartTime": now, "StatusMessage": message}
            self._transitions.append(transition)
            self.status, self.failure_reason = status, reason[:_LONGEST_REASON]
            if secondary == "Downloading":
                self._on_instance = now
                self._first_on_instance = self._first_on_instance or now
            if secondary == "Interrupted" or status in ENDED:
                self._training_seconds = self._seconds(now)
                self._on_instance = None
            if status in ENDED:
                self._ended = transition["EndTime"] = now
        self._changed(self)
        return True

    def training_seconds(self) -> float:
        """Return how long the job has had an instance, all attempts together."""
        with self._lock:
            return self._seconds(self._date())

    def _seconds(self, now: float) -> float:
        running = 0.0 if self._on_instance is None else now - self._on_instance
        return self._training_seconds + running

    def describe(self) -> dict[str, Any]:
        """Return DescribeTrainingJob's response, with times in seconds since 1970."""
        shown = {key: value for key, value in self.request.items() if key not in _HIDDEN}
        with self._lock:
            shown |= {
                "TrainingJobName": self.name,
                "TrainingJobArn": self.arn,
                "TrainingJobStatus": self.status,
                "SecondaryStatus": self.secondary_status,
                "SecondaryStatusTransitions": copy.deepcopy(self._transitions),
                "CreationTime": self.created,
                "LastModifiedTime": self._modified,
            }
            if self.failure_reason:
                shown["FailureReason"] = self.failure_reason
            if self.artifacts:
                shown["ModelArtifacts"] = {"S3ModelArtifacts": self.artifacts}
            if self._first_on_instance is not None:
                shown["TrainingStartTime"] = self._first_on_instance
            if self._ended is not None:
                shown["TrainingEndTime"] = self._ended
                seconds = round(self._training_seconds)
                shown["TrainingTimeInSeconds"] = seconds
                shown["BillableTimeInSeconds"] = round(seconds * self._share)
        return shown

    def summary(self) -> dict[str, Any]:
        """Return what ListTrainingJobs shows."""
        names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime")
        more = ("LastModifiedTime", "TrainingJobStatus", "SecondaryStatus")
        described = self.describe()
        return {name: described[name] for name in (*names, *more) if name in described}
