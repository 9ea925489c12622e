"""What SageMaker refuses in CreateTrainingJob, apart from the limits of single fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from endpoint.emulator.training.container import HOME


def first_problem(request: Mapping[str, Any]) -> str | None:
    """Return why a request is refused; None if it is not.

    Where AWS's words are unknown they are the emulator's own. What the emulator does not do is
    refused as well, in words that say so.
    """
    return next(_problems(request), None)


def _problems(request: Mapping[str, Any]) -> Iterator[str]:
    yield from _algorithm(request.get("AlgorithmSpecification") or {})
    yield from _resources(request)
    yield from _waiting(request)
    yield from _channels(request.get("InputDataConfig") or [])
    local = (request.get("CheckpointConfig") or {}).get("LocalPath", f"{HOME}/checkpoints")
    if not local.startswith(f"{HOME}/"):
        yield f"The emulator supports a LocalPath of checkpoints below {HOME} only."


def _algorithm(algorithm: Mapping[str, Any]) -> Iterator[str]:
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        yield "You must specify either an algorithm name or a training image, and not both."
    if not algorithm.get("ContainerEntrypoint"):
        yield (
            "The emulator runs no image: AlgorithmSpecification.ContainerEntrypoint has to name"
            " the command."
        )


def _resources(request: Mapping[str, Any]) -> Iterator[str]:
    resources = request.get("ResourceConfig") or {}
    if not resources.get("InstanceType"):
        yield "ResourceConfig must have an InstanceType. (InstancePreferences: not emulated.)"
    if resources.get("InstanceCount") != 1:
        yield "ResourceConfig must have an InstanceCount; the emulator has one instance for a job."
    if request.get("EnableManagedSpotTraining") and "KeepAlivePeriodInSeconds" in resources:
        # https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools.html
        yield "Managed spot training does not support KeepAlivePeriodInSeconds."


def _waiting(request: Mapping[str, Any]) -> Iterator[str]:
    limits = request.get("StoppingCondition") or {}
    wait, run = limits.get("MaxWaitTimeInSeconds"), limits.get("MaxRuntimeInSeconds", 86_400)
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html
    if request.get("EnableManagedSpotTraining"):
        if wait is None or wait < run:
            yield (
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to"
                " MaxRuntimeInSeconds"
            )
    elif wait is not None:
        yield "MaxWaitTimeInSeconds is for EnableManagedSpotTraining only"


def _channels(channels: list[Mapping[str, Any]]) -> Iterator[str]:
    names = [channel["ChannelName"] for channel in channels]
    if len(set(names)) < len(names):
        yield "The names of channels must be unique."
    for channel in channels:
        source = channel["DataSource"].get("S3DataSource")
        is_file = channel.get("InputMode", "File") in {"File", "FastFile"}
        if source is None or source["S3DataType"] != "S3Prefix" or not is_file:
            yield f"The emulator supports S3Prefix in File mode only ({channel['ChannelName']})."
