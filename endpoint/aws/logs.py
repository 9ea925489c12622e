"""CloudWatch Logs: what the model's container wrote."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import code_of

_KEPT_DAYS = 30
# What a serving container writes when its model did not load, while its ping says that all is well.
_TROUBLE = ("Worker died", "Load model failed", "ImportError", "OutOfMemory", "Traceback")
_MISSING = "ResourceNotFoundException"


def group_of(endpoint: str) -> str:
    """Return the log group that SageMaker gives an endpoint."""
    return f"/aws/sagemaker/Endpoints/{endpoint}"


class Logs:
    """Log groups by name."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def ensure(self, group: str, tags: dict[str, str]) -> None:
        """Make the group, to be kept for 30 days; SageMaker's own would be kept for ever."""
        try:
            self._client.create_log_group(logGroupName=group, tags=tags)
        except ClientError as error:
            if code_of(error) != "ResourceAlreadyExistsException":
                raise
        self._client.put_retention_policy(logGroupName=group, retentionInDays=_KEPT_DAYS)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes in bytes of the groups with this prefix, by name."""
        pages = self._client.get_paginator("describe_log_groups")
        return {
            group["logGroupName"]: int(group.get("storedBytes", 0))
            for page in pages.paginate(logGroupNamePrefix=prefix)
            for group in page["logGroups"]
        }

    def delete(self, group: str) -> None:
        """Delete a group, if it is there."""
        try:
            self._client.delete_log_group(logGroupName=group)
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise

    def trouble(self, group: str, since_milliseconds: int, most: int = 10) -> list[str]:
        """Return the last lines since then that tell of a model that does not load."""
        pattern = " ".join(f'?"{word}"' for word in _TROUBLE)
        pages = self._client.get_paginator("filter_log_events")
        found: list[str] = []
        try:
            for page in pages.paginate(
                logGroupName=group, startTime=since_milliseconds, filterPattern=pattern
            ):
                found += [event["message"].rstrip() for event in page["events"]]
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise
        return found[-most:]
