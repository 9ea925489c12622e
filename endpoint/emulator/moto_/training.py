"""SageMaker's training jobs.

moto 5.2.5 completes each job at once, accepts a name twice, and has neither StopTrainingJob nor
DeleteTrainingJob. Here jobs run (`training/`), moto keeps them for their tags, and each change of
status is an event of EventBridge.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from botocore.exceptions import ClientError
from moto.sagemaker.exceptions import ResourceInUseException, ResourceNotFound, ValidationError
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from endpoint.emulator.moto_ import events, request_check, service_quotas
from endpoint.emulator.moto_.patching import InUse, replace
from endpoint.emulator.moto_.roles import require_role
from endpoint.emulator.training.checks import first_problem
from endpoint.emulator.training.job import Job
from endpoint.emulator.training.record import ENDED, Record
from endpoint.emulator.training.service import Training

_CHANGED = "SageMaker Training Job State Change"
_DATES = ("CreationTime", "LastModifiedTime")
_service = InUse[Training | None](None)


def training(use: Training) -> AbstractContextManager[None]:
    """Let training jobs that are created while the context lasts run there."""
    return _service.use(use)


def install() -> None:
    """Patch moto's classes."""
    response: Any = SageMakerResponse
    response.create_training_job = _create
    response.describe_training_job = _describe
    response.list_training_jobs = _list
    response.stop_training_job = _stop
    response.delete_training_job = _delete
    # moto's own, for a resource that is in two dictionaries.
    replace(SageMakerModelBackend, "create_training_job", _unless_it_exists)


def _create(self: SageMakerResponse) -> str:
    request = json.loads(self.body)
    return json.dumps({"TrainingJobArn": start(self.sagemaker_backend, request)})


def start(backend: SageMakerModelBackend, request: dict[str, Any]) -> str:
    """Create a training job and start it; returns its ARN.

    Raises:
        ValidationError, ResourceInUseException, ResourceLimitExceeded: as CreateTrainingJob does.
    """
    service, region = _service.value, backend.region_name
    if service is None:
        raise ValidationError(message="No training jobs are emulated here.")
    request_check.check("CreateTrainingJob", request)
    problem = first_problem(request)
    if problem is not None:
        raise ValidationError(message=problem)
    require_role(backend.account_id, request["RoleArn"])
    _require_objects(service, request, region)
    _require_quota(service, request, region)
    known = backend.create_training_job(
        training_job_name=request["TrainingJobName"],
        hyper_parameters=request.get("HyperParameters", {}),
        algorithm_specification=dict(request["AlgorithmSpecification"]),
        role_arn=request["RoleArn"],
        input_data_config=request.get("InputDataConfig", []),
        output_data_config=request["OutputDataConfig"],
        resource_config=request["ResourceConfig"],
        vpc_config=request.get("VpcConfig", {}),
        stopping_condition=request.setdefault("StoppingCondition", {"MaxRuntimeInSeconds": 86_400}),
        tags=request.get("Tags", []),
        enable_network_isolation=request.setdefault("EnableNetworkIsolation", False),
        enable_inter_container_traffic_encryption=request.setdefault(
            "EnableInterContainerTrafficEncryption", False
        ),
        enable_managed_spot_training=request.setdefault("EnableManagedSpotTraining", False),
        checkpoint_config=request.get("CheckpointConfig", {}),
        debug_hook_config={},
        debug_rule_configurations=[],
        tensor_board_output_config={},
        experiment_config={},
    )

    def changed(record: Record) -> None:
        known.training_job_status = record.status
        detail = _milliseconds(record.describe())
        events.send(record.arn, region, _CHANGED, detail, service.date())

    vars(known)["job"] = service.create(request, known.arn, region, changed)
    return known.arn


def _unless_it_exists(original: Callable[..., Any]) -> Callable[..., Any]:
    def create(self: SageMakerModelBackend, **options: Any) -> Any:
        existing = self.training_jobs.get(options["training_job_name"])
        if existing is not None:
            # https://github.com/aws/amazon-sagemaker-examples/pull/3108
            raise ResourceInUseException(
                message="Training job names must be unique within an AWS account and region, and a"
                f" training job with this name already exists ({existing.arn})"
            )
        return original(self, **options)

    return create


def _require_objects(service: Training, request: dict[str, Any], region: str) -> None:
    for channel in request.get("InputDataConfig", []):
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        try:
            there = service.has_objects(uri, region)
        except ClientError:
            there = False
        if not there:
            # https://github.com/aws/amazon-sagemaker-examples/issues/2489
            bucket = uri.removeprefix("s3://").partition("/")[0]
            raise ValidationError(
                message=f'No S3 objects found under S3 URL "{uri}" given in input data source.'
                f" Please ensure that the bucket exists in the selected region ({region}), that"
                f' objects exist under that S3 prefix, and that the role "{request["RoleArn"]}" has'
                f' "s3:ListBucket" permissions on bucket "{bucket}".'
            )


def _require_quota(service: Training, request: dict[str, Any], region: str) -> None:
    kind = request["ResourceConfig"]["InstanceType"]
    spot = bool(request.get("EnableManagedSpotTraining"))
    usage = service_quotas.SPOT_TRAINING if spot else service_quotas.TRAINING
    service_quotas.require(kind, usage, service.in_use(region, kind, spot=spot))


def _job(self: SageMakerResponse) -> Job:
    name = json.loads(self.body)["TrainingJobName"]
    job = _jobs(self.sagemaker_backend).get(name)
    if job is None:
        raise ValidationError(message="Requested resource not found.")
    return job


def _jobs(backend: SageMakerModelBackend) -> dict[str, Job]:
    """Return the jobs by name, without one that another thread is still creating."""
    jobs = [(name, vars(known).get("job")) for name, known in list(backend.training_jobs.items())]
    return {name: job for name, job in jobs if job is not None}


def _describe(self: SageMakerResponse) -> str:
    return json.dumps(_job(self).record.describe())


def _stop(self: SageMakerResponse) -> str:
    job = _job(self)
    if not job.stop():
        # https://github.com/awslabs/benchmark-ai/issues/928; that Stopping counts is assumed.
        raise ValidationError(
            message="The request was rejected because the training job is in status"
            f" {job.record.status}."
        )
    return "{}"


def _delete(self: SageMakerResponse) -> str:
    name = json.loads(self.body)["TrainingJobName"]
    jobs = self.sagemaker_backend.training_jobs
    if name not in jobs:
        raise ResourceNotFound(message="Requested resource not found.")
    status = _job(self).record.status
    if status not in ENDED:
        # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeleteTrainingJob.html
        raise ResourceInUseException(
            message=f"The training job {name} is in status {status} and cannot be deleted."
        )
    del jobs[name]
    return "{}"


def _list(self: SageMakerResponse) -> str:
    asked = json.loads(self.body)
    request_check.check("ListTrainingJobs", asked)
    jobs = [job.record.summary() for job in _jobs(self.sagemaker_backend).values()]
    jobs = [job for job in jobs if _is_asked_for(job, asked)]
    key = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}.get(
        asked.get("SortBy", ""), "CreationTime"
    )
    # The newest first, where nothing else is asked for.
    jobs.sort(
        key=lambda job: job[key], reverse=asked.get("SortOrder", "Descending") == "Descending"
    )
    first, most = int(asked.get("NextToken") or 0), int(asked.get("MaxResults") or 10)
    following = {"NextToken": str(first + most)} if first + most < len(jobs) else {}
    return json.dumps({"TrainingJobSummaries": jobs[first : first + most], **following})


def _is_asked_for(job: dict[str, Any], asked: dict[str, Any]) -> bool:
    return (
        asked.get("NameContains", "") in job["TrainingJobName"]
        and asked.get("StatusEquals", job["TrainingJobStatus"]) == job["TrainingJobStatus"]
        and all(
            asked.get(f"{name}After", -math.inf)
            <= job[name]
            <= asked.get(f"{name}Before", math.inf)
            for name in _DATES
        )
    )


def _milliseconds(value: Any) -> Any:
    """Return a description with its times as EventBridge's events have them.

    https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
    """
    if isinstance(value, dict):
        return {
            key: int(item * 1000) if key.endswith("Time") else _milliseconds(item)
            for key, item in value.items()
        }
    return [_milliseconds(item) for item in value] if isinstance(value, list) else value
