"""What moto's SageMaker control plane knows about an endpoint.

Endpoints are made, described and deleted by plain boto3 against moto; the emulated runtime asks
here, at each request, what there is now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.sagemaker.models import sagemaker_backends

# One account: moto gives every fake credential the same one.
ACCOUNT = DEFAULT_ACCOUNT_ID
DEFAULT_REGION = "us-east-1"
_CREDENTIAL = re.compile(r"Credential=[^/]+/\d{8}/([a-z0-9-]+)/")


@dataclass(frozen=True)
class AsyncConfig:
    """An endpoint configuration's AsyncInferenceConfig.

    `concurrency` is MaxConcurrentInvocationsPerInstance; unset, SageMaker chooses and this
    emulator takes 1.
    """

    output_path: str
    failure_path: str | None
    concurrency: int
    success_topic: str | None
    error_topic: str | None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint in service and what stands behind its first variant.

    Attributes:
        created: when; a deleted endpoint made anew under its old name is another one.
        instances: how many instances the variant has now; 0 is possible.
        environment: the model container's environment variables.
        model_data: the S3 address of the model's data, if it has any.
    """

    name: str
    region: str
    created: datetime
    variant: str
    instances: int
    asynchronous: AsyncConfig | None
    environment: dict[str, str]
    model_data: str | None


@dataclass(frozen=True)
class CreatedWith:
    """What an endpoint keeps of its configuration and models, which may be deleted under it."""

    async_config: dict[str, Any] | None
    containers: dict[str, dict[str, Any]]


def remember(backend: Any, config_name: str) -> CreatedWith:
    """Return what an endpoint that is made now from the configuration `config_name` keeps."""
    config = backend.endpoint_configs[config_name]
    models = {
        variant["VariantName"]: backend._models.get(variant.get("ModelName"))
        for variant in config.production_variants
    }
    containers = {name: model.primary_container for name, model in models.items() if model}
    return CreatedWith(config.async_inference_config, containers)


def region_of(authorization: str | None) -> str:
    """Return the region that a request's signature names."""
    found = _CREDENTIAL.search(authorization or "")
    return found.group(1) if found else DEFAULT_REGION


def find_endpoint(name: str, region: str) -> Endpoint | None:
    """Return the endpoint, or None unless it exists and is in service."""
    backend = sagemaker_backends[ACCOUNT][region]
    endpoint = backend.endpoints.get(name)
    # SageMaker also does not find an endpoint that is being created or has failed.
    if endpoint is None or endpoint.endpoint_status not in ("InService", "Updating"):
        return None
    variant = endpoint.production_variants[0]
    # Put there by `moto_shims`.
    created_with: CreatedWith = vars(endpoint)["created_with"]
    container = created_with.containers.get(variant["VariantName"]) or {}
    return Endpoint(
        name=name,
        region=region,
        created=endpoint.creation_time,
        variant=variant["VariantName"],
        instances=variant.get("CurrentInstanceCount", 1),
        asynchronous=_async_config(created_with.async_config),
        environment=dict(container.get("Environment") or {}),
        model_data=_model_data(container),
    )


def async_endpoints() -> Iterator[Endpoint]:
    """Return the asynchronous endpoints that are in service, of all regions."""
    for region, backend in list(sagemaker_backends[ACCOUNT].items()):
        for name in list(backend.endpoints):
            endpoint = find_endpoint(name, region)
            if endpoint is not None and endpoint.asynchronous is not None:
                yield endpoint


def set_instances(endpoint: Endpoint, count: int) -> None:
    """Let the endpoint's first variant have so many instances, as scaling does."""
    known = sagemaker_backends[ACCOUNT][endpoint.region].endpoints.get(endpoint.name)
    if known is not None and known.creation_time == endpoint.created:
        variant = known.production_variants[0]
        variant["CurrentInstanceCount"] = variant["DesiredInstanceCount"] = count


def _model_data(container: dict[str, Any]) -> str | None:
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    return source.get("S3Uri") or container.get("ModelDataUrl")


def _async_config(given: dict[str, Any] | None) -> AsyncConfig | None:
    if not given:
        return None
    output = given["OutputConfig"]
    topics = output.get("NotificationConfig") or {}
    client = given.get("ClientConfig") or {}
    return AsyncConfig(
        output_path=output["S3OutputPath"].rstrip("/"),
        failure_path=(output.get("S3FailurePath") or "").rstrip("/") or None,
        concurrency=int(client.get("MaxConcurrentInvocationsPerInstance") or 1),
        success_topic=topics.get("SuccessTopic"),
        error_topic=topics.get("ErrorTopic"),
    )
