"""One execution of a pipeline: its steps, one after another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from endpoint.emulator.pipelines.definition import Definition, Step
from endpoint.emulator.pipelines.steps import Run, StepFailed, StepStopped, perform
from endpoint.emulator.pipelines.values import NoValue, Values
from endpoint.emulator.process.clock import Clock

EXECUTING, STOPPING = "Executing", "Stopping"
STOPPED, FAILED, SUCCEEDED = "Stopped", "Failed", "Succeeded"
ENDED = {STOPPED, FAILED, SUCCEEDED}

logger = logging.getLogger(__name__)


@dataclass
class StepRecord:
    """A step that has begun, as ListPipelineExecutionSteps shows it."""

    step: Step
    start: float
    status: str = EXECUTING
    end: float | None = None
    reason: str = ""
    attempts: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return the step with times in seconds since 1970."""
        shown = {
            "StepName": self.step.name,
            "StartTime": self.start,
            "StepStatus": self.status,
            "AttemptCount": self.attempts,
            "Metadata": self.metadata,
        }
        optional = {
            "EndTime": self.end,
            "FailureReason": self.reason,
            "StepDisplayName": self.step.raw.get("DisplayName"),
            "StepDescription": self.step.raw.get("Description"),
        }
        return shown | {key: value for key, value in optional.items() if value}


class Execution:
    """An execution in a thread of its own.

    Attributes:
        arn: ends in the execution's id.
        request: StartPipelineExecution's.
        status: of the execution.
        failure_reason: why it failed.
        steps: those that have begun, in this order.
        created, modified: seconds since 1970.
    """

    def __init__(
        self,
        definition: Definition,
        values: Values,
        arn: str,
        request: Mapping[str, Any],
        client: Callable[[str], Any],
        clock: Clock,
        date: Callable[[], float],
    ) -> None:
        self._definition, self._values = definition, values
        self.arn, self.request = arn, request
        self._client, self._clock, self._date = client, clock, date
        self.status, self.failure_reason = EXECUTING, ""
        self.steps: list[StepRecord] = []
        self.created = self.modified = date()
        self._stopped, self._closed = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    def stop(self) -> bool:
        """Begin to stop; returns False if the execution has ended, or is stopping already."""
        with self._lock:
            if self.status != EXECUTING:
                return False
            self._set(STOPPING)
        self._stopped.set()
        return True

    def close(self) -> None:
        """End with the emulator."""
        self._closed.set()
        self._stopped.set()

    def run(self) -> None:
        """Run all steps."""
        try:
            self._run(self._definition.steps)
            status = STOPPED if self._stopped.is_set() else SUCCEEDED
        except StepStopped:
            status = STOPPED
        except StepFailed:
            status = FAILED
        except Exception:
            # Without AWS, at the end of the emulator, no call works.
            if not self._stopped.is_set():
                logger.exception("The execution %s failed inside the emulator", self.arn)
            status = FAILED
        with self._lock:
            if status == FAILED:
                self.failure_reason = "Step failure: One or multiple steps failed."
            self._set(status)

    def _set(self, status: str) -> None:
        self.status, self.modified = status, self._date()

    def _run(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            if self._stopped.is_set():
                return
            record = StepRecord(step, self._date())
            self.steps.append(record)
            properties = self._perform(record)
            self._values.steps[step.name] = properties
            if step.type == "Condition":
                self._run(step.branches[properties["Outcome"]])

    def _perform(self, record: StepRecord) -> dict[str, Any]:
        """Do a step, several times if its retry policies say so."""
        try:
            while True:
                record.attempts += 1
                identity = self.arn.rpartition("/")[2]
                run = Run(
                    identity,
                    record.step,
                    self._values,
                    self._client,
                    self._stopped,
                    self._closed,
                )
                record.metadata = run.metadata
                try:
                    properties = perform(run)
                except StepFailed as failed:
                    self._wait_for_retry(record, failed)
                else:
                    self._end(record, SUCCEEDED)
                    return properties
        except StepStopped:
            self._end(record, STOPPED)
            raise
        except NoValue as error:
            self._end(record, FAILED, f"ClientError: {error}")
            raise StepFailed(str(error)) from error
        except StepFailed as error:
            self._end(record, FAILED, str(error))
            raise

    def _end(self, record: StepRecord, status: str, reason: str = "") -> None:
        record.status, record.reason, record.end = status, reason, self._date()

    def _wait_for_retry(self, record: StepRecord, failed: StepFailed) -> None:
        """Wait until the step can be tried again; raises the failure if it cannot.

        Defaults: https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
        """
        policy = _policy(record.step.raw.get("RetryPolicies", []), failed.kind)
        if policy is None or record.attempts >= policy.get("MaxAttempts", 5):
            raise failed
        seconds = policy.get("IntervalSeconds", 1)
        seconds *= policy.get("BackoffRate", 2.0) ** (record.attempts - 1)
        until = self._clock.now() + seconds
        while self._clock.now() < until:
            if self._stopped.wait(0.05):
                raise StepStopped


def _policy(policies: list[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    return next((item for item in policies if kind and kind in item["ExceptionType"]), None)
