"""SageMaker's endpoints: the resources that cost money by the hour."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from botocore.exceptions import ClientError

from endpoint.aws.models import instance_types, is_missing
from endpoint.core.problems import (
    AGAIN,
    EndpointFailed,
    NeverHealthy,
    NoCapacity,
    code_of,
    message_of,
    quota_advice,
)
from endpoint.core.waiting import Waiting

VARIANT = "AllTraffic"  # the name that SageMaker's own tools use for a single variant
# The sum of SageMaker's own limits for finding an instance, downloading the model and starting the
# container (provision/serving/definitions.py) is 140 minutes.
_MOST_SECONDS = 9000
# A failed endpoint has released its instances, and a deletion is about to.
_WITHOUT_INSTANCES = {"Failed", "Deleting"}
_COUNTS = ("CurrentInstanceCount", "DesiredInstanceCount")
_BUSY = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
# SageMaker updates no endpoint in one of these states; it can only be deleted.
_BEYOND_REPAIR = {"Failed", "OutOfService", "UpdateRollbackFailed"}
# Phrases of FailureReasons; SageMaker documents no codes for them.
_NO_CAPACITY = re.compile(r"InsufficientInstanceCapacity|unable to provision|capacity error", re.I)
_UNHEALTHY = re.compile(r"health check|CannotStartContainer|did not pass", re.I)


class Endpoints:
    """Endpoints by name."""

    def __init__(self, client: Any, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    def find(self, name: str) -> dict[str, Any] | None:
        """Return SageMaker's description of an endpoint, or None if it does not exist."""
        try:
            description: dict[str, Any] = self._client.describe_endpoint(EndpointName=name)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return description

    def names(self, contains: str) -> list[str]:
        """Return the names of the endpoints whose name contains `contains`."""
        pages = self._client.get_paginator("list_endpoints").paginate(NameContains=contains)
        return [item["EndpointName"] for page in pages for item in page["Endpoints"]]

    def updatable(self, name: str) -> dict[str, Any] | None:
        """Return the description of an endpoint that SageMaker can update; None if it cannot.

        Waits until SageMaker's work on the endpoint is done.

        Raises:
            TookTooLong: after two and a half hours.
        """
        # SageMaker rejects changes to an endpoint that it is still working on.
        self.settle(name)
        description = self.find(name)
        if description is None or description["EndpointStatus"] in _BEYOND_REPAIR:
            return None
        return description

    def instances(self) -> Counter[str]:
        """Return how many instances of each type the account's endpoints have, or are starting.

        Where SageMaker does not tell which of several types runs, the preferred one is counted.
        """
        used: Counter[str] = Counter()
        for name in self.names(""):
            description = self.find(name)
            if description and description["EndpointStatus"] not in _WITHOUT_INSTANCES:
                used += self._fleet(description)
                # During an update there is a second one.
                used += self._fleet(description.get("PendingDeploymentSummary") or {})
        return used

    def _fleet(self, description: dict[str, Any]) -> Counter[str]:
        """Return the instances of one fleet by type, from a description of it."""
        counted: Counter[str] = Counter()
        for variant in description.get("ProductionVariants", []):
            # While the first instance starts, there is none yet.
            numbers = (variant.get(key, 0) for key in _COUNTS)
            count = max(numbers) if set(_COUNTS) & set(variant) else 1
            for pool in variant.get("InstancePools") or []:
                there = pool.get("CurrentInstanceCount", 0)
                counted[pool["InstanceType"]] += there
                count -= there
            types = instance_types({"ProductionVariants": [variant]}) or instance_types(
                self._config(description["EndpointConfigName"])
            )
            counted.update(dict.fromkeys(types[:1], max(count, 0)))
        return counted

    def _config(self, name: str) -> dict[str, Any]:
        try:
            config: dict[str, Any] = self._client.describe_endpoint_config(EndpointConfigName=name)
        except ClientError as error:
            if is_missing(error):
                return {}
            raise
        return config

    def ensure(self, name: str, config: str, tags: list[dict[str, str]]) -> None:
        """Bring the endpoint into service with this configuration, whatever its state is now.

        Raises:
            NoCapacity: if AWS has no free instance.
            NeverHealthy: if the container does not pass its health check.
            EndpointFailed: if it fails for another reason, or SageMaker rolls the update back.
            TookTooLong: after two and a half hours.
        """
        description = self.updatable(name)
        if description is None:
            if self.find(name) is not None:  # beyond repair
                self.delete(name)
            self._client.create_endpoint(EndpointName=name, EndpointConfigName=config, Tags=tags)
        elif description["EndpointConfigName"] != config:
            # Starts a second fleet before it deletes the first, so both cost money and count
            # against the quota for that time.
            self._client.update_endpoint(EndpointName=name, EndpointConfigName=config)
        self.settle(name)
        self._check(name, config)

    def delete(self, name: str) -> None:
        """Delete an endpoint, if it exists, and wait until it is gone.

        SageMaker can refuse while it creates or updates the endpoint; this waits until it is done.

        Raises:
            EndpointFailed: if it still exists afterwards.
            TookTooLong: after two and a half hours.
        """
        # First without a wait: SageMaker accepts a deletion in most states.
        if not self._begin_delete(name):
            self.settle(name)
            self._begin_delete(name)
        self.settle(name)
        # A deletion can fail, and then the endpoint exists on, as Failed.
        if not self._waiting.pretend and self.find(name) is not None:
            raise EndpointFailed(f"The endpoint {name} could not be deleted.", AGAIN)

    def _begin_delete(self, name: str) -> bool:
        try:
            self._client.delete_endpoint(EndpointName=name)
        except ClientError as error:
            if is_missing(error):
                return True
            if _is_busy(error):
                return False
            raise
        return True

    def tag(self, arn: str, tags: list[dict[str, str]]) -> None:
        """Give an endpoint tags, by its ARN."""
        if tags:
            self._client.add_tags(ResourceArn=arn, Tags=tags)

    def settle(self, name: str) -> None:
        """Wait while SageMaker creates, updates or deletes the endpoint; show its progress.

        Raises:
            TookTooLong: after two and a half hours.
        """

        def poll() -> str | None:
            description = self.find(name)
            status = description["EndpointStatus"] if description else ""
            return _phase(name, description or {}, status) if status in _BUSY else None

        self._waiting.until_done(poll, at_most=_MOST_SECONDS, every=15)

    def _check(self, name: str, config: str) -> None:
        if self._waiting.pretend:
            return
        description = self.find(name) or {"EndpointStatus": "gone"}
        reason = description.get("FailureReason", "no reason given")
        if description["EndpointStatus"] != "InService":
            raise failure(name, reason)
        # After a rollback the endpoint is in service again, with its old configuration.
        if description["EndpointConfigName"] != config:
            raise EndpointFailed(
                f"SageMaker rolled the update of {name} back: {reason}",
                f"The endpoint still serves its previous version, at the same price. {AGAIN}",
            )


def _phase(name: str, description: dict[str, Any], status: str) -> str:
    """Return the current phase; the variant's status is more detailed than the endpoint's."""
    phase = f"endpoint {name}: {status.lower()}"
    # During an update the new variants are listed as pending.
    variants = description.get("PendingDeploymentSummary", {}).get("ProductionVariants", [])
    details = [
        item.get("StatusMessage") or item.get("Status", "")
        for variant in variants or description.get("ProductionVariants", [])
        for item in variant.get("VariantStatus", [])
    ]
    # Without a message, the variant's status can be the same word.
    return f"{phase}: {details[0]}" if details and details[0] not in {"", status} else phase


def failure(name: str, reason: str) -> EndpointFailed:
    """Return the error that a FailureReason of SageMaker's stands for."""
    message = f"The endpoint {name} failed: {reason}"
    if _NO_CAPACITY.search(reason):
        return NoCapacity(
            message,
            "AWS has no free instance of this type at the moment: pass other types with"
            " --instance-type (repeat it; the types are tried in this order), choose another"
            f" --region, or try again later. {AGAIN}",
        )
    if _UNHEALTHY.search(reason):
        return NeverHealthy(
            message,
            "The container did not start; its log is shown above. Check --image and the model."
            f" {AGAIN}",
        )
    # Its message names "the account-level service limit":
    # https://github.com/aws/amazon-sagemaker-examples/issues/307
    if "ResourceLimitExceeded" in reason or "service limit" in reason:
        return EndpointFailed(message, f"{quota_advice()} {AGAIN}")
    return EndpointFailed(message, AGAIN)


def _is_busy(error: ClientError) -> bool:
    # "Cannot update in-progress endpoint", with the code of an invalid parameter.
    message = message_of(error).lower()
    return code_of(error) == "ValidationException" and "in-progress" in message
