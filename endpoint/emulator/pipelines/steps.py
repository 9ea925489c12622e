"""What a step of each type does."""

from __future__ import annotations

import json
import random
import string
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from endpoint.emulator.pipelines.definition import Step
from endpoint.emulator.pipelines.values import Values

_POLL_SECONDS = 0.05
# A Training step creates a job of this name.
_NAME = "pipelines-{}-{}-{}"
_LONGEST_NAME = 63


class StepFailed(Exception):
    """The step fails.

    Attributes:
        kind: the ExceptionType by which a retry policy names the failure; empty for others.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        self.kind = kind
        super().__init__(message)


class StepStopped(Exception):
    """The step was stopped with its execution."""


@dataclass
class Run:
    """One attempt at a step.

    Attributes:
        execution: the execution's id.
        client: returns the boto3 client of a service, in the name of the pipeline's role.
        stopped: is set when the execution is to stop.
        closed: is set when the emulator ends, which waits for nothing.
        metadata: of the step, as ListPipelineExecutionSteps shows it.
    """

    execution: str
    step: Step
    values: Values
    client: Callable[[str], Any]
    stopped: threading.Event
    closed: threading.Event
    metadata: dict[str, Any] = field(default_factory=dict)


def training(run: Run) -> dict[str, Any]:
    """Create a training job and wait for its end; its description is the step's properties."""
    ends = "".join(random.choices(string.ascii_letters + string.digits, k=10))  # noqa: S311 - a name
    room = _LONGEST_NAME - len(_NAME.format(run.execution, "", ends))
    own = run.step.name.replace("_", "-")[:room].strip("-")
    name = _NAME.format(run.execution, own, ends)
    sagemaker = run.client("sagemaker")
    request = {**run.values.resolve(run.step.arguments), "TrainingJobName": name}
    run.metadata["TrainingJob"] = {
        "Arn": sagemaker.create_training_job(**request)["TrainingJobArn"]
    }
    is_stopping = False
    while True:
        job: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
        match job["TrainingJobStatus"]:
            case "Completed":
                return job
            case "Failed":
                reason = job["FailureReason"]
                raise StepFailed(f"ClientError: {reason}", _job_failure(reason))
            case "Stopped" if is_stopping:
                raise StepStopped
            case "Stopped":
                # That a job which somebody else stopped fails its step is assumed.
                raise StepFailed(f"The training job {name} is {job['SecondaryStatus']}.")
        run.closed.wait(_POLL_SECONDS)
        if run.closed.is_set():
            raise StepStopped
        if run.stopped.is_set() and not is_stopping:
            is_stopping = True
            sagemaker.stop_training_job(TrainingJobName=name)


def _job_failure(reason: str) -> str:
    if reason.startswith("CapacityError"):
        return "SageMaker.CAPACITY_ERROR"
    if reason.startswith("InternalServerError"):
        return "SageMaker.JOB_INTERNAL_ERROR"
    return ""


def lambda_(run: Run) -> dict[str, Any]:
    """Invoke a function; what it returns are the step's OutputParameters.

    "The Lambda function output ... should be a JSON object of key value pairs"; all that are named
    have to be there. https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
    """
    arn = run.values.resolve(run.step.raw["FunctionArn"])
    payload = json.dumps(run.values.resolve(run.step.arguments))
    run.metadata["Lambda"] = {"Arn": arn}
    answer = run.client("lambda").invoke(FunctionName=arn, Payload=payload.encode())
    result = json.loads(answer["Payload"].read() or b"null")
    if "FunctionError" in answer:
        text = result.get("errorMessage", "") if isinstance(result, Mapping) else ""
        raise StepFailed(f"ClientError: The function {arn} failed: {text}")
    names = [item["OutputName"] for item in run.step.raw.get("OutputParameters", [])]
    outputs = {}
    for name in names:
        value = result.get(name) if isinstance(result, Mapping) else None
        if value is None or isinstance(value, dict | list):
            raise StepFailed(f"ClientError: The function {arn} returned no text or number {name}.")
        outputs[name] = value
    shown = [{"Name": name, "Value": str(value)} for name, value in outputs.items()]
    run.metadata["Lambda"]["OutputParameters"] = shown
    return {"OutputParameters": outputs}


def condition(run: Run) -> dict[str, Any]:
    """Evaluate the conditions, all of which have to hold."""
    holds = all(run.values.holds(item) for item in run.step.arguments["Conditions"])
    run.metadata["Condition"] = {"Outcome": str(holds)}
    return {"Outcome": holds}


def fail(run: Run) -> dict[str, Any]:
    """Fail with a message."""
    message = str(run.values.resolve(run.step.arguments.get("ErrorMessage", "")))
    run.metadata["Fail"] = {"ErrorMessage": message}
    raise StepFailed(message)


STEPS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "Training": training,
    "Lambda": lambda_,
    "Condition": condition,
    "Fail": fail,
}


def perform(run: Run) -> dict[str, Any]:
    """Do what a step says; returns its properties, for later steps.

    Raises:
        StepFailed, StepStopped: the step ends so.
        NoValue: if a reference leads nowhere.
    """
    try:
        return STEPS[run.step.type](run)
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        raise StepFailed(f"ClientError: {code}: {message}", _CALLS.get(code, "")) from error


_CALLS = {
    "ResourceLimitExceeded": "SageMaker.RESOURCE_LIMIT",
    "ThrottlingException": "Step.THROTTLING",
    "TooManyRequestsException": "Step.THROTTLING",
    "ServiceException": "Step.SERVICE_FAULT",
}
