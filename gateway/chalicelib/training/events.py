"""Invocations of the Lambda that do not come from API Gateway: EventBridge's and pipelines'.

    {"source": "aws.sagemaker", "detail-type": "SageMaker Training Job State Change", ...}
    {"easel": "check", "marker": "datasets/<owner>/<set>/start.json", "longest": 3600,
     "execution": "<the ARN of the pipeline's execution>"}
    {"easel": "publish", "id": "<job>", "sagemaker_job": "<SageMaker's name>"}

Nothing of an event is believed but which job to look at: SageMaker and S3 say the rest.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from chalicelib.aws.deadline import Deadline, sharing
from chalicelib.errors import InvalidRequest, TrainingRunning, TrainingUnknown
from chalicelib.training.jobs import Training
from chalicelib.training.service import TrainingService
from chalicelib.training.training_request import TrainingRequest, invalid
from chalicelib.training_jobs import places
from chalicelib.training_jobs.price import LONGEST_RUN, LONGEST_RUN_OF_OPERATOR

_STATE_CHANGE = "SageMaker Training Job State Change"
_SAGEMAKER_NAME = re.compile(r"[A-Za-z0-9](?:-*[A-Za-z0-9]){0,62}")
_TEXTS = (
    "id", "owner", "image", "instance_type", "code", "job", "pictures", "weights", "checkpoints",
    "output",
)  # fmt: skip
_NUMBERS = ("max_runtime", "max_wait")
_LARGEST_MARKER = 1_000_000  # bytes
_LONGEST_ARN = 256


def handle(service: TrainingService, event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of an invocation, within the time that a request has.

    Raises:
        ValueError: for an event of any other shape.
        GatewayError: if the job cannot be started, or AWS does not respond: the invocation fails,
            which ends a pipeline, and which EventBridge repeats.
    """
    deadline = Deadline(time.monotonic() + service.settings.deadline_seconds)
    with sharing(deadline):
        return _handle(service, event)


def _handle(service: TrainingService, event: Mapping[str, Any]) -> dict[str, Any]:
    if event.get("easel") == "check":
        execution = event.get("execution", "")
        return check(service, _text(event, "marker"), event.get("longest"), execution)
    if event.get("easel") == "publish":
        return publish(service, _text(event, "id"), _text(event, "sagemaker_job"))
    if event.get("source") == "aws.sagemaker" and event.get("detail-type") == _STATE_CHANGE:
        detail = event.get("detail")
        if not isinstance(detail, Mapping):
            raise ValueError("The event has no detail.")
        name = _text(detail, "TrainingJobName")
        identifier = _id_of(service, name, detail)
        found = _observe(service, identifier, name) if identifier else None
        return {"state": found.state.name if found else ""}
    raise ValueError("Unknown event.")


def check(
    service: TrainingService, marker: str, longest: object, execution: object = ""
) -> dict[str, Any]:
    """Prepare the job that a data set's marker asks for, and return what its pipeline needs.

    The marker is the body of `POST /api/train` without `dataset`. The job has the data set's id, so
    that an event that is delivered twice starts one job.

    Args:
        service: prepares it.
        marker: the key of the object.
        longest: the most seconds that the job may take; jobs of callers never take over an hour.
        execution: the ARN of the pipeline's execution; empty if it is not known.

    Returns:
        Text and numbers by name; prefixes are without the bucket. `start` is no if there is such a
        job already.

    Raises:
        GatewayError: as `TrainingService.plan` and `start`.
    """
    place = places.dataset_of_marker(marker)
    stored = service.store.read(marker, longest=_LARGEST_MARKER) if place else None
    if place is None:
        raise TrainingUnknown(
            f"{marker[:200]!r} is not the marker of a data set, whose id has 12 lower-case letters"
            " and digits: datasets/operator/<id>/start.json."
        )
    if stored is None:
        raise TrainingUnknown(f"There is no data set with {marker[:200]!r}.")
    owner, dataset = place
    if not isinstance(execution, str) or len(execution) > _LONGEST_ARN:
        raise ValueError("The event has no ARN of an execution.")
    if service.jobs.read(dataset) is not None:
        return _nothing_to_start()
    requested = TrainingRequest.from_dict({**_fields(stored.body), "dataset": dataset})
    if requested.on_demand or requested.dry_run:
        raise invalid("on_demand", "and dry_run are not for pipelines; use POST /api/train")
    plan = service.plan(owner, requested, _longest(owner, longest))
    try:
        record = service.prepare(owner, dataset, requested, plan, execution)
    except TrainingRunning as error:
        if error.job == dataset:  # by the same event, which has arrived twice
            return _nothing_to_start()
        raise
    service.begin(record)
    training = service.training
    return {
        "start": "yes",
        "id": record.id,
        "owner": owner,
        "image": training.image,
        "instance_type": record.instance_type,
        "code": training.code,
        "job": places.job_channel(record.id),
        "pictures": places.dataset(owner, dataset),
        "weights": training.models[record.model].weights,
        "checkpoints": places.checkpoints(record.id),
        "output": places.output(record.id),
        "max_runtime": record.max_runtime,
        "max_wait": record.max_wait,
    }


def _nothing_to_start() -> dict[str, Any]:
    return {**dict.fromkeys(_TEXTS, ""), **dict.fromkeys(_NUMBERS, 0), "start": "no"}


def _longest(owner: str, longest: object) -> int:
    """Return the seconds that a job may take: only the operator's may take more than an hour."""
    most = LONGEST_RUN_OF_OPERATOR if owner == places.OPERATOR else LONGEST_RUN
    if longest is None:
        return LONGEST_RUN
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
        raise ValueError("longest is no number of seconds.")
    return min(longest, most)


def publish(service: TrainingService, identifier: str, name: str) -> dict[str, Any]:
    """Publish the adapter of a job that a pipeline has run, and return its name.

    Args:
        service: publishes it.
        identifier: of the job.
        name: SageMaker's own, of its training job.

    Raises:
        ValueError: if it cannot be published.
    """
    found = _observe(service, identifier, name)
    if found is None or found.state.name != "published":
        raise ValueError(f"Not published. {found.state.error if found else 'Unknown job.'}")
    return {"lora": found.record.name}


def _observe(service: TrainingService, identifier: str, name: str) -> Training | None:
    if not _SAGEMAKER_NAME.fullmatch(name):
        raise ValueError("The name of the training job is none of SageMaker's.")
    return service.observe(identifier, name)


def _id_of(service: TrainingService, name: str, detail: Mapping[str, Any]) -> str | None:
    """Return the id of the job that an event is about; None if it is none of this deployment."""
    own = places.job_of(name, service.training.deployment)
    if own is not None:
        return own[0]
    output = detail.get("OutputDataConfig")
    path = output.get("S3OutputPath") if isinstance(output, Mapping) else None
    start = service.address(places.JOBS)
    if not isinstance(path, str) or not path.startswith(start):
        return None
    return path.removeprefix(start).partition("/")[0]


def _fields(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{places.MARKER} must be JSON.") from error
    if not isinstance(data, dict):
        raise InvalidRequest(f"{places.MARKER} must be a JSON object.")
    return data


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str):
        raise ValueError(f"The event has no {name}.")
    return value
