"""What SageMaker does with an update: the asynchronous endpoint gets one that cannot succeed.

Its container listens where SageMaker does not ask, so that the new fleet never passes its health
check. Until the endpoint is rolled back, two fleets cost money.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from endpoint.aws.models import instance_types
from endpoint.catalogue import prices
from endpoint.core.problems import ScriptError, code_of, message_of
from endpoint.proof.subject import Observation, Subject, changes
from endpoint.provision.serving import capacity

# An instance, its image, the health check, and the way back.
_UPDATE_SECONDS = 3600
# What a refused update would cost if AWS accepted it.
MOST_INSTANCES = 2
_BUSY = {"Creating", "Updating", "RollingBack"}
# SageMaker asks at 8080: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
_OTHER_PORT = {"SAGEMAKER_BIND_TO_PORT": "8081"}
_SHORTEST_HEALTH_CHECK = 60
# What DescribeEndpointConfig returns of a variant, and CreateEndpointConfig takes.
_INSTANCES = ("InstancePools", "InstanceType", "VariantInstanceProvisionTimeoutInSeconds")


def update_quota(subject: Subject) -> Observation:
    """Whether a fleet that fits into the quota alone is refused next to the old one."""
    context, endpoint = subject.context, subject.real_time
    instance_type = _running_type(subject, endpoint)
    room = (capacity.read(context, [instance_type]) or {}).get(instance_type)
    if room is None or room.quota is None:
        raise ScriptError(f"the quota of {instance_type} could not be read")
    # If only the difference between the two fleets counted, this would fit.
    count = int(room.quota) - room.used + 1
    if not 1 <= count <= MOST_INSTANCES:
        raise ScriptError(
            f"{room.in_words()}: a proof starts at most {MOST_INSTANCES} more, if AWS accepts it"
        )
    fleet = dict.fromkeys(_INSTANCES) | {"InstanceType": instance_type}
    words = _update(subject, endpoint, {**fleet, "InitialInstanceCount": count})
    if not words:
        _settle(subject, endpoint)
    return Observation(
        words.startswith("ResourceLimitExceeded"),
        f"{room.in_words()}, and an update with {count}: {words or 'accepted'}",
    )


def update_scaled(subject: Subject) -> Observation:
    """Whether only the instance types of a scaled endpoint are refused."""
    endpoint = subject.asynchronous
    types = dict.fromkeys(_INSTANCES) | {"InstanceType": _other_type(subject, endpoint)}
    of_type = _update(subject, endpoint, types)
    if not of_type:
        _settle(subject, endpoint)
    of_model = _update(subject, endpoint, {}, environment=_OTHER_PORT)
    words = f"another instance type: {of_type or 'accepted'}; a model: {of_model or 'accepted'}"
    return Observation("deregistered" in of_type and not of_model, words)


def update_in_progress(subject: Subject) -> Observation:
    """Whether an endpoint that is being updated refuses another update."""
    _require_update(subject)
    words = _update(subject, subject.asynchronous, {"InitialInstanceCount": 1})
    held = words.startswith("ValidationException") and "in-progress" in words
    return Observation(held, words or "accepted")


def update_rollback(subject: Subject) -> Observation:
    """Whether an update that fails ends with the old configuration, by way of RollingBack."""
    before = _require_update(subject)["EndpointConfigName"]
    states = _settle(subject, subject.asynchronous)
    after = subject.context.endpoints.find(subject.asynchronous) or {}
    same = after.get("EndpointConfigName") == before
    if not same and states[-1] == "InService":
        raise ScriptError("the update succeeded, so nothing was rolled back")
    words = f"{', '.join(changes(states))}; {after.get('FailureReason', 'no reason')}"
    return Observation(same and "RollingBack" in states and states[-1] == "InService", words)


def _config(subject: Subject, endpoint: str) -> dict[str, Any]:
    description = subject.context.endpoints.find(endpoint) or {}
    return subject.context.models.find_config(description["EndpointConfigName"]) or {}


def _running_type(subject: Subject, endpoint: str) -> str:
    (variant,) = (subject.context.endpoints.find(endpoint) or {})["ProductionVariants"]
    pools = variant.get("InstancePools") or []
    running = [pool["InstanceType"] for pool in pools if pool.get("CurrentInstanceCount")]
    types = running or instance_types(_config(subject, endpoint))
    if len(types) != 1:
        raise ScriptError(f"AWS does not tell which of {', '.join(types)} runs")
    return types[0]


def _other_type(subject: Subject, endpoint: str) -> str:
    """Return the cheapest type that the endpoint does not have, and the quota has room for."""
    present = instance_types(_config(subject, endpoint))
    # The image of GPUs does not run on the others.
    others = [
        name
        for name, kind in prices.instance_types().items()
        if name not in present and not kind.is_inferentia
    ]
    rooms = capacity.read(subject.context, others)
    if rooms is not None:
        others = [name for name, room in rooms.items() if room.quota and room.has_one]
    if not others:
        raise ScriptError("the quotas have room for no other instance type")
    return min(others, key=lambda name: prices.instance_types()[name].usd_per_hour)


def _update(
    subject: Subject,
    endpoint: str,
    changed: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> str:
    """Update an endpoint to a changed variant; return AWS's refusal, empty if there is none.

    Args:
        subject: the deployment.
        endpoint: its name.
        changed: members of the variant; None removes one.
        environment: variables to add to the container's.
    """
    context, present = subject.context, _config(subject, endpoint)
    name = context.deployment.model_of(endpoint)
    variant = {**present["ProductionVariants"][0], **changed}
    if environment:
        variant["ModelName"] = _model(subject, name, variant["ModelName"], environment)
        variant["ContainerStartupHealthCheckTimeoutInSeconds"] = _SHORTEST_HEALTH_CHECK
    definition: dict[str, Any] = {
        "ProductionVariants": [{key: value for key, value in variant.items() if value is not None}]
    }
    if "AsyncInferenceConfig" in present:
        definition["AsyncInferenceConfig"] = present["AsyncInferenceConfig"]
    config = context.deployment.versioned(name, ["proof", definition])
    context.models.ensure_config(config, definition, context.deployment.tags)
    try:
        subject.client("sagemaker").update_endpoint(
            EndpointName=endpoint, EndpointConfigName=config
        )
    except ClientError as error:
        return f"{code_of(error)}: {message_of(error)}"
    return ""


def _model(subject: Subject, name: str, like: str, environment: Mapping[str, str]) -> str:
    """Create a model like another one, with more variables; return its name."""
    context = subject.context
    found = context.models.find_model(like) or {}
    container = dict(found["PrimaryContainer"])
    container["Environment"] = {**container.get("Environment", {}), **environment}
    definition = {"PrimaryContainer": container, "ExecutionRoleArn": found["ExecutionRoleArn"]}
    if found.get("VpcConfig"):
        definition["VpcConfig"] = found["VpcConfig"]
    model = context.deployment.versioned(name, ["proof", definition])
    context.models.ensure_model(model, definition, context.deployment.tags)
    return model


def _require_update(subject: Subject) -> dict[str, Any]:
    description = subject.context.endpoints.find(subject.asynchronous) or {}
    if description.get("EndpointStatus") != "Updating":
        raise ScriptError("no update is in progress")
    return description


def _settle(subject: Subject, endpoint: str) -> list[str]:
    """Wait until SageMaker is done with the endpoint; return the states that it had."""
    states: list[str] = []

    def poll() -> str | None:
        description = subject.context.endpoints.find(endpoint) or {}
        states.append(str(description.get("EndpointStatus", "gone")))
        return f"{endpoint}: {states[-1]}" if states[-1] in _BUSY else None

    subject.context.waiting.until_done(poll, at_most=_UPDATE_SECONDS, every=5)
    return states
