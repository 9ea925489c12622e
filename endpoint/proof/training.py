"""What training jobs, their stack and uploads by forms do, without a job that costs anything."""

from __future__ import annotations

from typing import Any

import urllib3
from botocore.exceptions import ClientError

from endpoint.aws.registry import Image
from endpoint.core.problems import code_of, message_of
from endpoint.core.training_jobs import places, request
from endpoint.proof.subject import Observation, Subject
from endpoint.provision.training import stack

_UNKNOWN = "0" * 12
_LARGEST_UPLOAD = 100  # bytes
# Should SageMaker accept the job that it has to refuse, it costs a cent.
_INSTANCE_TYPE, _SECONDS = "ml.m5.large", 900
_EVENT_SECONDS, _RUNNING = 600, ("Executing", "Stopping")


def training_unknown(subject: Subject) -> Observation:
    """Whether an unknown training job is recognised as one, which the gateway relies on."""
    sagemaker = subject.client("sagemaker")
    name = places.sagemaker_name(subject.context.name, _UNKNOWN, 1)
    said = [
        _refusal(lambda call=call: call(TrainingJobName=name))
        for call in (sagemaker.describe_training_job, sagemaker.stop_training_job)
    ]
    held = all("not found" in text.lower() for text in said)
    return Observation(held, "; ".join(said))


def _image(subject: Subject) -> Image:
    """Return an image that exists: the endpoint's, as no job is ever started from it."""
    context = subject.context
    # Its configuration remains when the endpoint is stopped.
    newest = context.models.configs(f"{subject.asynchronous}-")[0]
    config = context.models.find_config(newest["EndpointConfigName"]) or {}
    model = context.models.find_model(config["ProductionVariants"][0]["ModelName"]) or {}
    return Image.parse(model["PrimaryContainer"]["Image"])


def training_stack(subject: Subject) -> Observation:
    """Whether CloudFormation creates the stack: role, policies, pipeline and rules."""
    stack.ensure(subject.context, _image(subject), [_INSTANCE_TYPE], gateway=True)
    described = subject.client("sagemaker").describe_pipeline(
        PipelineName=subject.context.deployment.training_stack
    )
    return Observation(
        described["PipelineStatus"] == "Active", f"the pipeline is {described['PipelineStatus']}"
    )


def training_channel(subject: Subject) -> Observation:
    """Whether a job whose channels have no objects is refused at once."""
    context, sagemaker = subject.context, subject.client("sagemaker")
    name = places.sagemaker_name(context.name, _UNKNOWN, 2)
    asked: dict[str, Any] = request.create_training_job(
        name,
        bucket=subject.bucket,
        deployment=context.name,
        owner=places.OPERATOR,
        role=context.deployment.training_role,
        image=_image(subject).uri,
        instance_type=_INSTANCE_TYPE,
        code=places.code(f"{0:016}"),
        job=places.job_channel(_UNKNOWN),
        pictures=places.dataset(places.OPERATOR, _UNKNOWN),
        weights=places.weights("none", f"{0:016}"),
        checkpoints=places.checkpoints(_UNKNOWN),
        output=places.output(_UNKNOWN),
        max_runtime=_SECONDS,
        max_wait=None,
    )
    said = _refusal(lambda: sagemaker.create_training_job(**asked))
    if said == _ACCEPTED:
        sagemaker.stop_training_job(TrainingJobName=name)
    return Observation("ValidationException" in said and "No S3 objects" in said, said)


def event_value(subject: Subject) -> Observation:
    """Whether a marker in S3 starts the pipeline, with the marker's key for a parameter.

    The gateway of a proof does not train, so that the pipeline fails at its check.
    """
    sagemaker, marker = (
        subject.client("sagemaker"),
        places.dataset_marker(places.OPERATOR, _UNKNOWN),
    )
    subject.client("s3").put_object(Bucket=subject.bucket, Key=marker, Body=b"{}")

    def poll() -> str | None:
        return None if _executions(subject) else "no event has started the pipeline yet"

    subject.context.waiting.until_done(poll, at_most=_EVENT_SECONDS, every=5)
    parameters = sagemaker.list_pipeline_parameters_for_execution(
        PipelineExecutionArn=_executions(subject)[-1]["PipelineExecutionArn"]
    )["PipelineParameters"]
    values = {item["Name"]: item["Value"] for item in parameters}
    return Observation(values.get("Marker") == marker, f"the parameters are {values}")


def pipeline_failure(subject: Subject) -> Observation:
    """Whether a step whose function fails ends the execution, and no further step begins."""
    sagemaker = subject.client("sagemaker")

    def poll() -> str | None:
        (first, *_) = _executions(subject)[::-1]
        return "the pipeline is running" if first["PipelineExecutionStatus"] in _RUNNING else None

    subject.context.waiting.until_done(poll, at_most=_EVENT_SECONDS, every=5)
    execution = _executions(subject)[-1]
    steps = sagemaker.list_pipeline_execution_steps(
        PipelineExecutionArn=execution["PipelineExecutionArn"], SortOrder="Ascending"
    )["PipelineExecutionSteps"]
    states = [(step["StepName"], step["StepStatus"]) for step in steps]
    held = execution["PipelineExecutionStatus"] == "Failed" and states == [
        ("Limits", "Succeeded"),
        ("Check", "Failed"),
    ]
    reason = steps[-1].get("FailureReason", "")[:200] if steps else ""
    return Observation(held, f"{execution['PipelineExecutionStatus']}: {states}: {reason}")


def pipeline_token(subject: Subject) -> Observation:
    """Whether the same token starts one execution, and refuses other parameters."""
    sagemaker = subject.client("sagemaker")

    def start(marker: str) -> str:
        # Above the limit of the pipeline, whose first step then fails.
        values = {"Marker": marker, "LongestRun": "1000000"}
        arn: str = sagemaker.start_pipeline_execution(
            PipelineName=subject.context.deployment.training_stack,
            PipelineParameters=[{"Name": name, "Value": value} for name, value in values.items()],
            ClientRequestToken=_UNKNOWN * 3,
        )["PipelineExecutionArn"]
        return arn

    same = start("a") == start("a")
    said = _refusal(lambda: start("b"))
    words = f"the same execution: {same}; with other parameters: {said}"
    return Observation(same and "ConflictException" in said, words)


def _executions(subject: Subject) -> list[dict[str, Any]]:
    """Return the executions of the pipeline, the newest first."""
    listed: list[dict[str, Any]] = subject.client("sagemaker").list_pipeline_executions(
        PipelineName=subject.context.deployment.training_stack
    )["PipelineExecutionSummaries"]
    return listed


def upload_policy(subject: Subject) -> Observation:
    """Whether S3 keeps to the policy of a form: its media type, and its size."""
    key = "jobs/proof/form"
    form = subject.client("s3", signature_version="s3v4").generate_presigned_post(
        subject.bucket,
        key,
        Fields={"Content-Type": "image/png"},
        Conditions=[{"Content-Type": "image/png"}, ["content-length-range", 1, _LARGEST_UPLOAD]],
    )
    statuses = [
        _upload(subject, form["url"], {**form["fields"], **more}, body)
        for more, body in (
            ({"Content-Type": "text/html"}, b"x"),
            ({"key": f"{key}2"}, b"x"),
            ({}, b"x" * (_LARGEST_UPLOAD + 1)),
            ({}, b"x"),
        )
    ]
    words = "another type: {}; another key: {}; too large: {}; as allowed: {}".format(*statuses)
    return Observation(statuses == [403, 403, 400, 204], words)


def _upload(subject: Subject, url: str, fields: dict[str, str], body: bytes) -> int:
    content, kind = urllib3.encode_multipart_formdata([*fields.items(), ("file", ("x", body))])
    return subject.visitor.send(url, content, kind).status


_ACCEPTED = "accepted"


def _refusal(call: Any) -> str:
    """Return the code and the message with which AWS refuses a call."""
    try:
        call()
    except ClientError as error:
        return f"{code_of(error)}: {message_of(error)}"
    return _ACCEPTED


# In this order: the pipeline is the stack's, and its first execution the event's.
TRAINING = (
    training_unknown,
    upload_policy,
    training_stack,
    training_channel,
    event_value,
    pipeline_failure,
    pipeline_token,
)
