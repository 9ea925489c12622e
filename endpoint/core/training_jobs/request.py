"""The request that starts a training job: SageMaker's CreateTrainingJob, made here only.

It holds no text from people. What they wrote is in `job.json`, in the channel `job`, because some
training images pass hyperparameters through a shell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .fields import InvalidField
from .job import Job

# Set by whoever starts a job.
_NOT_ASKED = ("version", "usd_per_hour")
_VOLUME_GB = 50  # ignored by instance types with a disk of their own
ENTRYPOINT = ["python3", "-m", "training"]
ENVIRONMENT = {"PYTHONPATH": "/opt/ml/input/data/code"}


def read_job(data: Mapping[str, object], *, has_class_pictures: bool = False) -> Job:
    """Return the job that a person asks for.

    Raises:
        InvalidField: for an unknown field, a value outside its limits, or pictures of the class
            that are not there.
    """
    for name in _NOT_ASKED:
        if name in data:
            raise InvalidField(name, "is not a field that can be set")
    job = Job.from_dict(data)
    has_class_pictures |= any(one.of_class for one in job.sets)
    if job.preserve == "pictures" and not has_class_pictures:
        raise InvalidField("preserve", "pictures needs pictures of the class; use output")
    return job


def job_json(job: Job, *, steps: int, usd_per_hour: float) -> bytes:
    """Return the content of `job.json`.

    Args:
        job: what a person asked for.
        steps: of the estimate, so that price and run are of the same number.
        usd_per_hour: for the cost in the job's progress.
    """
    data = {**job.to_dict(), "steps": steps, "usd_per_hour": usd_per_hour}
    return json.dumps(data, ensure_ascii=False, indent=1).encode()


def create_training_job(
    name: str,
    *,
    bucket: str,
    deployment: str,
    owner: str,
    role: str,
    image: str,
    instance_type: str,
    code: str,
    job: str,
    pictures: str,
    weights: str,
    checkpoints: str,
    output: str,
    max_runtime: int,
    max_wait: int | None,
    class_pictures: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of CreateTrainingJob.

    Args:
        name: SageMaker's name of the attempt (`places.sagemaker_name`).
        bucket: the deployment's bucket.
        deployment: the value of the tag `easel`.
        owner: the value of the tag `easel-owner`.
        role: the ARN of the training role.
        image: the URI of the training image.
        instance_type: such as ml.g5.xlarge.
        code: the prefix in the bucket of the trainer.
        job: the prefix of `job.json`.
        pictures: the prefix of the data set.
        weights: the prefix of the model in diffusers' format.
        checkpoints: the prefix that mirrors the container's checkpoints.
        output: the prefix of what the job leaves.
        max_runtime: seconds, from the estimate.
        max_wait: seconds, which makes it a spot job; None on demand.
        class_pictures: the prefix of pictures of the class, if there are any.
    """
    channels = {"code": code, "job": job, "pictures": pictures, "model": weights}
    if class_pictures:
        channels["class"] = class_pictures
    return any_job(
        name,
        bucket=bucket,
        deployment=deployment,
        owner=owner,
        role=role,
        image=image,
        instance_type=instance_type,
        channels=channels,
        checkpoints=checkpoints,
        output=output,
        max_runtime=max_runtime,
        max_wait=max_wait,
    )


def any_job(
    name: str,
    *,
    bucket: str,
    deployment: str,
    owner: str,
    role: str,
    image: str,
    instance_type: str,
    channels: Mapping[str, str],
    checkpoints: str,
    output: str,
    max_runtime: int,
    max_wait: int | None,
    entrypoint: Sequence[str] = ENTRYPOINT,
    environment: Mapping[str, str] | None = None,
    volume_gb: int = _VOLUME_GB,
    isolated: bool = True,
) -> dict[str, Any]:
    """Return the arguments of CreateTrainingJob, for a job that trains or does anything else.

    Args:
        name: as for `create_training_job`.
        bucket: likewise.
        deployment: likewise.
        owner: likewise.
        role: likewise.
        image: the URI of the image.
        instance_type: likewise.
        channels: prefixes in the bucket, by the names of the channels.
        checkpoints: likewise.
        output: likewise.
        max_runtime: likewise.
        max_wait: likewise.
        entrypoint: the command.
        environment: the variables; the trainer's by default.
        volume_gb: of the disk; instance types with a disk of their own have another size.
        isolated: whether the container has neither a network nor credentials.
    """
    stopping = {"MaxRuntimeInSeconds": max_runtime}
    if max_wait is not None:
        stopping["MaxWaitTimeInSeconds"] = max_wait
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": list(entrypoint),
        },
        "RoleArn": role,
        "InputDataConfig": [_channel(bucket, *channel) for channel in channels.items()],
        "OutputDataConfig": {
            "S3OutputPath": f"s3://{bucket}/{output}",
            "CompressionType": "NONE",
        },
        "ResourceConfig": {
            "InstanceType": instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": volume_gb,
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": max_wait is not None,
        "CheckpointConfig": {
            "S3Uri": f"s3://{bucket}/{checkpoints}",
            "LocalPath": "/opt/ml/checkpoints",
        },
        "EnableNetworkIsolation": isolated,
        "Environment": dict(ENVIRONMENT if environment is None else environment),
        "Tags": [
            {"Key": "easel", "Value": deployment},
            {"Key": "easel-owner", "Value": owner},
        ],
    }


def next_attempt(
    description: Mapping[str, Any], name: str, *, deployment: str, owner: str, max_wait: int | None
) -> dict[str, Any]:
    """Return the arguments of CreateTrainingJob that resume a job from its checkpoints.

    Args:
        description: the answer of DescribeTrainingJob for the attempt before.
        name: SageMaker's name of the new attempt.
        deployment: the value of the tag `easel`.
        owner: the value of the tag `easel-owner`.
        max_wait: seconds, which makes it a spot job; None on demand.
    """
    addresses = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in description["InputDataConfig"]
    }
    addresses["checkpoints"] = description["CheckpointConfig"]["S3Uri"]
    addresses["output"] = description["OutputDataConfig"]["S3OutputPath"]
    bucket = addresses["code"].split("/")[2]
    prefixes = {key: text.removeprefix(f"s3://{bucket}/") for key, text in addresses.items()}
    return create_training_job(
        name,
        bucket=bucket,
        deployment=deployment,
        owner=owner,
        role=description["RoleArn"],
        image=description["AlgorithmSpecification"]["TrainingImage"],
        instance_type=description["ResourceConfig"]["InstanceType"],
        code=prefixes["code"],
        job=prefixes["job"],
        pictures=prefixes["pictures"],
        weights=prefixes["model"],
        checkpoints=prefixes["checkpoints"],
        output=prefixes["output"],
        max_runtime=description["StoppingCondition"]["MaxRuntimeInSeconds"],
        max_wait=max_wait,
        class_pictures=prefixes.get("class"),
    )


def _channel(bucket: str, name: str, prefix: str) -> dict[str, Any]:
    return {
        "ChannelName": name,
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": f"s3://{bucket}/{prefix}",
                "S3DataDistributionType": "FullyReplicated",
            }
        },
        "InputMode": "File",
    }
