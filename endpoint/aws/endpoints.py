"""SageMaker's endpoints: what costs money by the hour."""

from __future__ import annotations

import re
from typing import Any

from botocore.exceptions import ClientError

from endpoint.aws.models import is_missing
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

VARIANT = "AllTraffic"
# A pool of three types may be searched for 15 minutes, then comes the container's own time.
_MOST_SECONDS = 5400
_BUSY = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
_BEYOND_REPAIR = {"Failed", "OutOfService", "UpdateRollbackFailed"}
_NO_CAPACITY = re.compile(r"InsufficientInstanceCapacity|unable to provision|capacity error", re.I)
_UNHEALTHY = re.compile(r"health check|CannotStartContainer|did not pass", re.I)


class Endpoints:
    """Endpoints by name."""

    def __init__(self, client: Any, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    def find(self, name: str) -> dict[str, Any] | None:
        """Return SageMaker's description of an endpoint, or None if there is none."""
        try:
            found: dict[str, Any] = self._client.describe_endpoint(EndpointName=name)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return found

    def names(self, contains: str) -> list[str]:
        """Return the names of endpoints whose name has `contains`."""
        pages = self._client.get_paginator("list_endpoints").paginate(NameContains=contains)
        return [item["EndpointName"] for page in pages for item in page["Endpoints"]]

    def has_other_config(self, name: str, config: str) -> bool:
        """Whether the endpoint is there with another configuration than this."""
        found = self.find(name)
        return found is not None and found["EndpointConfigName"] != config

    def ensure(self, name: str, config: str, tags: list[dict[str, str]]) -> None:
        """Bring the endpoint into service with this configuration, whatever it is now.

        Raises:
            NoCapacity: if AWS has no instance.
            NeverHealthy: if its container does not answer.
            EndpointFailed: if it fails for another reason, or its update is rolled back.
            TookTooLong: after an hour and a half.
        """
        self.settle(name)
        found = self.find(name)
        if found and found["EndpointStatus"] in _BEYOND_REPAIR:
            self.delete(name)
            found = None
        if found is None:
            self._client.create_endpoint(EndpointName=name, EndpointConfigName=config, Tags=tags)
        elif found["EndpointConfigName"] != config:
            self._client.update_endpoint(EndpointName=name, EndpointConfigName=config)
        self.settle(name)
        self._check(name, config)

    def delete(self, name: str) -> None:
        """Delete an endpoint and wait until it is gone; one that is not there is gone.

        SageMaker may refuse while the endpoint is being made or changed; that is waited for.

        Raises:
            EndpointFailed: if it still exists afterwards.
            TookTooLong: after an hour and a half.
        """
        if not self._begin_delete(name):
            self.settle(name)
            self._begin_delete(name)
        self.settle(name)
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

    def settle(self, name: str) -> None:
        """Wait while SageMaker is at work on the endpoint, showing what it does.

        Raises:
            TookTooLong: after an hour and a half.
        """

        def look() -> str | None:
            found = self.find(name)
            status = found["EndpointStatus"] if found else ""
            return _phase(name, found or {}, status) if status in _BUSY else None

        self._waiting.until_done(look, at_most=_MOST_SECONDS, every=15)

    def _check(self, name: str, config: str) -> None:
        if self._waiting.pretend:
            return
        found = self.find(name) or {"EndpointStatus": "gone"}
        reason = found.get("FailureReason", "no reason given")
        if found["EndpointStatus"] != "InService":
            raise failure(name, reason)
        if found["EndpointConfigName"] != config:
            raise EndpointFailed(
                f"SageMaker rolled the update of {name} back: {reason}",
                f"The endpoint serves as it did before, and costs the same. {AGAIN}",
            )


def _phase(name: str, found: dict[str, Any], status: str) -> str:
    """Return what goes on: the variant says more than the endpoint."""
    phase = f"endpoint {name}: {status.lower()}"
    variants = found.get("PendingDeploymentSummary", {}).get("ProductionVariants", [])
    said = [
        item.get("StatusMessage") or item.get("Status", "")
        for variant in variants or found.get("ProductionVariants", [])
        for item in variant.get("VariantStatus", [])
    ]
    return f"{phase}: {said[0]}" if said and said[0] else phase


def failure(name: str, reason: str) -> EndpointFailed:
    """Return what a FailureReason of SageMaker's means."""
    said = f"The endpoint {name} failed: {reason}"
    if _NO_CAPACITY.search(reason):
        return NoCapacity(
            said,
            "AWS has no such instance free at the moment: name others with --instance-type (it may"
            " be given several times, the first is tried first), take another --region, or try"
            f" again later. {AGAIN}",
        )
    if _UNHEALTHY.search(reason):
        return NeverHealthy(
            said,
            "The container did not start: its log is shown above. Check --image and the model."
            f" {AGAIN}",
        )
    if "ResourceLimitExceeded" in reason or "service limit" in reason:
        return EndpointFailed(said, f"{quota_advice()} {AGAIN}")
    return EndpointFailed(said, AGAIN)


def _is_busy(error: ClientError) -> bool:
    said = message_of(error).lower()
    return code_of(error) == "ValidationException" and "in-progress" in said
