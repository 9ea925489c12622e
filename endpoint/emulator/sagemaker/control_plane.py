"""The endpoints in moto's SageMaker control plane, as the emulated runtime and scaling see them.

Endpoints are created, described and deleted by plain boto3 against moto. SageMaker Runtime reads
their present state here at each request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moto.sagemaker.models import sagemaker_backends

from endpoint.emulator.account import ACCOUNT, DEFAULT_REGION
from endpoint.emulator.sagemaker.lifecycle import GONE, Lifecycle

# Signature Version 4: access key, date, region, service.
_CREDENTIAL = re.compile(r"Credential=[^/]+/\d{8}/([a-z0-9-]+)/")


@dataclass(frozen=True)
class AsyncConfig:
    """An endpoint configuration's AsyncInferenceConfig.

    The paths are as configured. `concurrency` is MaxConcurrentInvocationsPerInstance; unset,
    SageMaker chooses and this emulator takes 1.
    """

    output_path: str
    failure_path: str | None
    concurrency: int
    success_topic: str | None
    error_topic: str | None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint in service and the container of its first variant.

    Attributes:
        created: when; a deleted endpoint that is created again under its name is another one.
        instances: how many instances the variant has now; 0 is possible.
        image: the model container's image.
        environment: its environment variables.
        model_data: the S3 address of the model's data, if it has any.
    """

    name: str
    region: str
    created: datetime
    variant: str
    instances: int
    asynchronous: AsyncConfig | None
    image: str
    environment: dict[str, str]
    model_data: str | None


def region_of(authorization: str | None) -> str:
    """Return the region that a request's signature names."""
    credential = _CREDENTIAL.search(authorization or "")
    return credential.group(1) if credential else DEFAULT_REGION


def find_endpoint(name: str, region: str) -> Endpoint | None:
    """Return the endpoint, or None unless it exists and is in service."""
    endpoint = settle(sagemaker_backends[ACCOUNT][region]).get(name)
    # SageMaker Runtime does not find an endpoint that is being created or has failed, either.
    if endpoint is None or not lifecycle(endpoint).is_serving:
        return None
    fleet = lifecycle(endpoint).fleet
    # SageMaker divides requests among variants by weight, which is not imitated.
    variant = fleet.variants[0]
    container = fleet.containers.get(variant["VariantName"]) or {}
    return Endpoint(
        name=name,
        region=region,
        created=endpoint.creation_time,
        variant=variant["VariantName"],
        instances=variant.get("CurrentInstanceCount", 1),
        asynchronous=_async_config(fleet.async_config),
        image=container.get("Image") or "",
        environment=dict(container.get("Environment") or {}),
        model_data=_model_data(container),
    )


def lifecycle(endpoint: Any) -> Lifecycle:
    """Return the states of one of moto's endpoints, which `moto_/sagemaker.py` put there."""
    states: Lifecycle = vars(endpoint)["lifecycle"]
    return states


def settle(backend: Any) -> dict[str, Any]:
    """Bring moto's endpoints to this moment's states, and return them by name.

    An endpoint that another thread is still creating is not among them.
    """
    endpoints: dict[str, Any] = {}
    for name, endpoint in list(backend.endpoints.items()):
        if "lifecycle" not in vars(endpoint):
            continue
        states = lifecycle(endpoint)
        status = states.status
        if status == GONE:
            # Another thread may have removed it, too.
            backend.endpoints.pop(name, None)
            continue
        endpoint.endpoint_status, endpoint.failure_reason = status, states.failure_reason
        endpoint.endpoint_config_name = states.fleet.config
        endpoint.production_variants = states.fleet.variants
        # DescribeEndpoint shows it, too, which moto leaves out.
        endpoint.async_inference_config = states.fleet.async_config
        endpoints[name] = endpoint
    return endpoints


def async_endpoints() -> Iterator[Endpoint]:
    """Return the asynchronous endpoints that are in service, of all regions."""
    for region, backend in list(sagemaker_backends[ACCOUNT].items()):
        for name in list(settle(backend)):
            endpoint = find_endpoint(name, region)
            if endpoint is not None and endpoint.asynchronous is not None:
                yield endpoint


def set_instances(endpoint: Endpoint, count: int) -> None:
    """Set the number of instances of the endpoint's first variant, as scaling does."""
    present = sagemaker_backends[ACCOUNT][endpoint.region].endpoints.get(endpoint.name)
    if present is not None and present.creation_time == endpoint.created:
        variant = lifecycle(present).fleet.variants[0]
        variant["CurrentInstanceCount"] = variant["DesiredInstanceCount"] = count


def _model_data(container: dict[str, Any]) -> str | None:
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    return source.get("S3Uri") or container.get("ModelDataUrl")


def _async_config(config: dict[str, Any] | None) -> AsyncConfig | None:
    if not config:
        return None
    output = config["OutputConfig"]
    topics = output.get("NotificationConfig") or {}
    client = config.get("ClientConfig") or {}
    return AsyncConfig(
        output_path=output["S3OutputPath"],
        failure_path=output.get("S3FailurePath") or None,
        concurrency=int(client.get("MaxConcurrentInvocationsPerInstance") or 1),
        success_topic=topics.get("SuccessTopic"),
        error_topic=topics.get("ErrorTopic"),
    )
