"""SageMaker's control plane: instance types, instance pools, and endpoints that take time.

moto 5.2.5 has endpoints in service at once, cannot update them, creates two under one name, and
ends its list of instance types before g5. Here they go through the states of `lifecycle.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpointConfig, SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from endpoint.emulator.container.imitations.image_names import starts_on
from endpoint.emulator.moto_ import service_quotas
from endpoint.emulator.moto_.patching import InUse, replace
from endpoint.emulator.sagemaker.control_plane import lifecycle, settle
from endpoint.emulator.sagemaker.lifecycle import CREATING, FAILED, Fleet, Lifecycle, Transitions
from endpoint.emulator.sagemaker.provisioning import Search, search

# https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
_PORT = "8080"
# By default an endpoint is in service, changed or gone at once.
_transitions = InUse(Transitions())


def transitions(use: Transitions) -> AbstractContextManager[None]:
    """Let endpoints created while the context lasts go through these transitions."""
    return _transitions.use(use)


def install() -> None:
    """Patch moto's classes."""
    replace(FakeEndpointConfig, "validate_instance_type", lambda _: _validate_instance_type)
    replace(FakeEndpointConfig, "validate_production_variants", _accept_instance_pools)
    backend = SageMakerModelBackend
    replace(backend, "create_endpoint", _create)
    replace(backend, "describe_endpoint", _describe)
    replace(backend, "list_endpoints", _settle_first)
    replace(backend, "delete_endpoint", _delete)
    replace(backend, "update_endpoint_weights_and_capacities", _unless_in_progress)
    # Added, not replaced: moto has no such method.
    SageMakerResponse.update_endpoint = _update  # type: ignore[attr-defined]


def _validate_instance_type(_: FakeEndpointConfig, instance_type: str) -> None:
    if not re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", instance_type):
        raise ValidationError(message=f"{instance_type} is not an instance type.")


def _accept_instance_pools(original: Callable[..., Any]) -> Callable[..., Any]:
    """Moto requires an InstanceType in every variant; InstancePools may replace it."""

    def validate(self: FakeEndpointConfig, production_variants: list[dict[str, Any]]) -> None:
        pooled = [variant for variant in production_variants if "InstancePools" in variant]
        for pool in [pool for variant in pooled for pool in variant["InstancePools"]]:
            self.validate_instance_type(pool["InstanceType"])
        original(self, [variant for variant in production_variants if variant not in pooled])

    return validate


def _create(original: Callable[..., Any]) -> Callable[..., Any]:
    def create(
        self: SageMakerModelBackend, endpoint_name: str, endpoint_config_name: str, tags: Any
    ) -> Any:
        existing = settle(self).get(endpoint_name)
        if existing is not None:
            raise ValidationError(
                message=f'Cannot create already existing endpoint "{existing.arn}".'
            )
        placed = _placed(self, endpoint_config_name, _transitions.value)
        endpoint = original(self, endpoint_name, endpoint_config_name, tags)
        fleet = _fleet(self, endpoint, endpoint_config_name, placed)
        states = Lifecycle(_transitions.value, fleet)
        states.create()
        endpoint.creation_time = _transitions.value.moment().replace(tzinfo=None)
        vars(endpoint)["lifecycle"] = states  # last: other threads see the endpoint from now on
        return endpoint

    return create


def _update(self: SageMakerResponse) -> str:
    asked = json.loads(self.body)
    backend, name = self.sagemaker_backend, asked["EndpointName"]
    endpoint = _changeable(backend, name)
    if lifecycle(endpoint).status == FAILED:
        # "DeleteEndpoint is the only operation that can be performed on a failed endpoint" (API
        # reference of DescribeEndpoint).
        raise ValidationError(message=f'Cannot update failed endpoint "{endpoint.arn}".')
    config = asked["EndpointConfigName"]
    if _is_scaled(backend, name) and _types(backend, config) != _types(
        backend, lifecycle(endpoint).fleet.config
    ):
        names = ",".join(lifecycle(endpoint).fleet.instance_types)
        raise ValidationError(
            message=f'The variant(s) "[{names}]" must be deregistered as scalable targets with AWS'
            " Auto Scaling before they can be removed or have their instance type updated."
        )
    states = lifecycle(endpoint)
    placed = _placed(backend, config, states.transitions)
    states.update(_fleet(backend, endpoint, config, placed))
    return json.dumps({"EndpointArn": endpoint.arn})


def _types(backend: SageMakerModelBackend, config_name: str) -> dict[str, set[str]]:
    """Return the instance types that each variant of a configuration can have."""
    config = backend.endpoint_configs.get(config_name)
    return {
        variant["VariantName"]: {
            item["InstanceType"]
            for item in [*variant.get("InstancePools", []), variant]
            if item.get("InstanceType")
        }
        for variant in (config.production_variants if config is not None else [])
    }


def _delete(original: Callable[..., Any]) -> Callable[..., Any]:
    def delete(self: SageMakerModelBackend, endpoint_name: str) -> None:
        if endpoint_name not in self.endpoints:
            original(self, endpoint_name)  # which raises SageMaker's error
        lifecycle(_changeable(self, endpoint_name)).delete()
        settle(self)

    return delete


def _describe(original: Callable[..., Any]) -> Callable[..., Any]:
    def describe(self: SageMakerModelBackend, endpoint_name: str) -> dict[str, Any]:
        endpoint = settle(self).get(endpoint_name)
        description: dict[str, Any] = original(self, endpoint_name)
        if endpoint is None:
            raise ValidationError(message=f'Could not find endpoint "{endpoint_name}".')
        states = lifecycle(endpoint)
        starting = states.status == CREATING
        description["ProductionVariants"] = states.fleet.described(starting=starting)
        if states.second is not None:
            # "Only returned when the endpoint is creating or updating" (API reference).
            description["PendingDeploymentSummary"] = {
                "EndpointConfigName": states.second.config,
                "ProductionVariants": states.second.described(starting=True),
            }
        return description

    return describe


def _settle_first(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: SageMakerModelBackend, *arguments: Any, **options: Any) -> Any:
        settle(self)
        return original(self, *arguments, **options)

    return call


def _unless_in_progress(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: SageMakerModelBackend, endpoint_name: str, *arguments: Any, **more: Any) -> Any:
        if endpoint_name in settle(self):
            _changeable(self, endpoint_name)
        return original(self, endpoint_name, *arguments, **more)

    return call


def _changeable(backend: SageMakerModelBackend, name: str) -> Any:
    endpoint = settle(backend).get(name)
    if endpoint is None:
        raise ValidationError(message=f'Could not find endpoint "{name}".')
    if lifecycle(endpoint).is_in_progress:
        raise ValidationError(message=f'Cannot update in-progress endpoint "{endpoint.arn}".')
    return endpoint


def _is_scaled(backend: SageMakerModelBackend, name: str) -> bool:
    # Imported late: it makes a boto3 session, which fails on some users' AWS settings.
    from moto.applicationautoscaling.models import applicationautoscaling_backends

    scaling = applicationautoscaling_backends[backend.account_id][backend.region_name]
    targets = scaling.describe_scalable_targets("sagemaker", None, None)
    return any(target.resource_id.startswith(f"endpoint/{name}/") for target in targets)


def _fleet(
    backend: SageMakerModelBackend, endpoint: Any, config_name: str, placed: dict[str, Search]
) -> Fleet:
    config = backend.endpoint_configs[config_name]
    variants = config.production_variants
    models = {
        variant["VariantName"]: backend._models.get(variant.get("ModelName", ""))
        for variant in variants
    }
    containers = {name: model.primary_container for name, model in models.items() if model}
    return Fleet(
        config=config_name,
        variants=endpoint._process_production_variants(config.production_variants),
        instance_types={name: found.instance_type for name, found in placed.items()},
        async_config=config.async_inference_config,
        containers=containers,
        pools={
            variant["VariantName"]: _pools(variant)
            for variant in config.production_variants
            if "InstancePools" in variant
        },
        search_seconds=max((found.seconds for found in placed.values()), default=0.0),
        failure=next((found.failure for found in placed.values() if found.failure), None)
        or next(filter(None, (_illness(item, containers) for item in variants)), None),
    )


def _illness(variant: dict[str, Any], containers: dict[str, dict[str, Any]]) -> str | None:
    """Return why a variant's container is never healthy.

    It listens where nothing asks for it, or its host's driver is too old for its image.
    """
    name = variant["VariantName"]
    container = containers.get(name, {})
    port = (container.get("Environment") or {}).get("SAGEMAKER_BIND_TO_PORT", _PORT)
    if port == _PORT and starts_on(
        container.get("Image") or "", variant.get("InferenceAmiVersion")
    ):
        return None
    return (
        f"The primary container for production variant {name} did not pass the ping health check."
        " Please check CloudWatch logs for this endpoint."
    )


def _placed(
    backend: SageMakerModelBackend, config_name: str, transitions: Transitions
) -> dict[str, Search]:
    """Return what looking for each variant's instances ends in.

    The instances of every fleet count against the quota, including the second fleet of an update.
    AWS's refusal counts "current utilization" and "a request delta" (amazon-sagemaker-examples
    issue 307). That an update's delta is its whole new fleet is assumed.
    """
    config = backend.endpoint_configs.get(config_name)
    return {
        variant["VariantName"]: search(
            _within_quota(backend, variant),
            transitions.capacity,
            variant.get("VariantInstanceProvisionTimeoutInSeconds"),
        )
        for variant in (config.production_variants if config is not None else [])
    }


def _pools(variant: dict[str, Any]) -> list[str]:
    """Return the types that a variant can have, in the order to try them."""
    pools = sorted(variant.get("InstancePools", []), key=lambda pool: pool.get("Priority", 0))
    return [pool["InstanceType"] for pool in pools] or [variant.get("InstanceType", "")]


def _within_quota(backend: SageMakerModelBackend, variant: dict[str, Any]) -> list[str]:
    types = _pools(variant)
    quotas, count = service_quotas.QUOTAS, variant.get("InitialInstanceCount", 1)
    allowed = [
        name for name in types if _in_use(backend, name) + count <= quotas.get(name, math.inf)
    ]
    if allowed:
        return allowed
    service_quotas.require(types[0], service_quotas.ENDPOINT, _in_use(backend, types[0]), count)
    return types


def _in_use(backend: SageMakerModelBackend, instance_type: str) -> int:
    return sum(lifecycle(item).instances(instance_type) for item in settle(backend).values())
