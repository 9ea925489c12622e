"""The record of a job, and its state from the record and from SageMaker's description."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

STATES = (
    "queued", "starting", "downloading", "training", "interrupted", "uploading", "completed",
    "published", "failed", "stopping", "stopped",
)  # fmt: skip
# What does not change any more without a request.
FINAL = ("published", "failed", "stopped")

# SageMaker's SecondaryStatus.
_PHASES = {
    "Pending": "queued",
    "Starting": "starting",
    "LaunchingMLInstances": "starting",
    "PreparingTrainingStack": "starting",
    "Restarting": "starting",
    "Updating": "starting",
    "Downloading": "downloading",
    "DownloadingTrainingImage": "downloading",
    "Training": "training",
    "Interrupted": "interrupted",
    "Uploading": "uploading",
}
_ENDED = {"Completed": "completed", "Failed": "failed", "Stopping": "stopping",
          "Stopped": "stopped"}  # fmt: skip
# What SageMaker puts around the text of the failure file.
_AROUND = re.compile(
    r"^AlgorithmError: ?(.*?)(?:,? ?exit code: -?\d+)?$", re.DOTALL | re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a job besides SageMaker's description: `record.json`.

    Attributes:
        id: the job's.
        owner: whose it is (`places.owner_of`).
        model: the model's name.
        name: the adapter's name.
        dataset: the id of the data set, or a prefix for one of the operator.
        instance_type: such as ml.g5.xlarge.
        spot: whether it uses spot instances.
        usd_per_hour: what an hour is expected to cost, with the discount of spot instances.
        usd_most: what the time limit allows at the full price.
        steps: of the optimizer.
        pictures: how many there are.
        max_runtime: seconds.
        max_wait: seconds; None on demand.
        created: seconds since 1970.
        attempt: 1, and one more each time it was resumed.
        sagemaker_job: SageMaker's name of the attempt; empty before a pipeline has started it.
        cancelled: whether it was stopped on request.
        published: seconds since 1970 when the adapter was published; None before.
        error: why it failed, in a sentence.
        digest: of the data set; the gateway resumes a job only with the same files.
        spent: USD of all attempts that have ended.
        ended: seconds since 1970 when the latest attempt's end was recorded; None before.
        execution: the ARN of the pipeline's execution that starts it; empty for other jobs.
    """

    id: str
    owner: str
    model: str
    name: str
    dataset: str
    instance_type: str
    spot: bool
    usd_per_hour: float
    usd_most: float
    steps: int
    pictures: int
    max_runtime: int
    max_wait: int | None
    created: float
    attempt: int = 1
    sagemaker_job: str = ""
    cancelled: bool = False
    published: float | None = None
    error: str = ""
    digest: str = ""
    spent: float = 0.0
    ended: float | None = None
    execution: str = ""

    def to_json(self) -> bytes:
        """Return the content of `record.json`."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Record:
        """Read `record.json`; fields of a newer version are left out.

        Raises:
            ValueError: if it is no record.
        """
        try:
            data = json.loads(content)
            known = {one.name for one in fields(cls)}
            return cls(**{name: value for name, value in data.items() if name in known})
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise ValueError("is not a record of a training job") from error


@dataclass(frozen=True)
class State:
    """The state of a job.

    Attributes:
        name: one of STATES.
        error: a sentence, if it failed or reached a limit.
        billed_seconds: what AWS bills so far; None while it does not say.
    """

    name: str
    error: str = ""
    billed_seconds: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether it does not change any more without a request."""
        return self.name in FINAL


def state_of(record: Record, description: Mapping[str, Any] | None) -> State:
    """Return the state of a job.

    Args:
        record: the job's.
        description: the answer of DescribeTrainingJob; None if SageMaker has no such job (yet).
    """
    if record.published is not None:
        return State("published", billed_seconds=_billed(description))
    if record.error:
        return State("failed", record.error, _billed(description))
    if description is None:
        return State("stopped") if record.cancelled else State("queued")
    status = str(description.get("TrainingJobStatus", ""))
    secondary = str(description.get("SecondaryStatus", ""))
    name = _ENDED.get(status) or _PHASES.get(secondary, "starting")
    error = ""
    if name == "failed":
        error = sentence(str(description.get("FailureReason", "")), record.instance_type)
    elif secondary == "MaxRuntimeExceeded":
        minutes = record.max_runtime // 60
        name = "failed"
        error = (
            f"It reached its time limit of {minutes} minutes; resume it to go on from its newest "
            "checkpoint."
        )
    elif secondary == "MaxWaitTimeExceeded":
        name = "failed"
        error = "AWS had no spot instance for long enough; resume it, on demand if it is urgent."
    return State(name, error, _billed(description))


def sentence(reason: str, instance_type: str) -> str:
    """Return SageMaker's FailureReason as a sentence that a person can act on."""
    if reason.startswith("CapacityError"):
        return f"AWS has no free {instance_type} at present; resume the job later."
    text = " ".join(_AROUND.sub(r"\1", reason.strip()).split())
    if not text:
        return "The job failed without a reason; its log is in CloudWatch."
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _billed(description: Mapping[str, Any] | None) -> float | None:
    value = (description or {}).get("BillableTimeInSeconds")
    return float(value) if isinstance(value, int | float) else None
