"""CloudWatch Logs: what the model's container wrote."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import code_of

_RETENTION_DAYS = 30
# A serving container logs these when it could not load its model; its health check still passes.
_LOAD_FAILURES = (
    "Worker died",
    "Load model failed",
    "ImportError",
    "ModuleNotFoundError",
    "undefined symbol",
    "OutOfMemory",
    "Traceback",
)
_MISSING = "ResourceNotFoundException"


def group_of(endpoint: str) -> str:
    """Return the log group that SageMaker writes an endpoint's logs to."""
    return f"/aws/sagemaker/Endpoints/{endpoint}"


class Logs:
    """Log groups by name."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def ensure(self, group: str, tags: dict[str, str]) -> None:
        """Create the group with a retention of 30 days.

        SageMaker would create the group itself, but without tags, and would keep logs for ever.
        """
        try:
            self._client.create_log_group(logGroupName=group, tags=tags)
        except ClientError as error:
            if code_of(error) != "ResourceAlreadyExistsException":
                raise
        # For an existing group as well: SageMaker may have created it.
        self._client.put_retention_policy(logGroupName=group, retentionInDays=_RETENTION_DAYS)

    def tags(self, arn: str) -> dict[str, str]:
        """Return a group's tags; empty if it does not exist."""
        try:
            tags: dict[str, str] = self._client.list_tags_for_resource(resourceArn=arn)["tags"]
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise
            return {}
        return tags

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes in bytes of the groups with this prefix, by name."""
        pages = self._client.get_paginator("describe_log_groups")
        return {
            group["logGroupName"]: int(group.get("storedBytes", 0))
            for page in pages.paginate(logGroupNamePrefix=prefix)
            for group in page["logGroups"]
        }

    def delete(self, group: str) -> None:
        """Delete a group, if it exists."""
        try:
            self._client.delete_log_group(logGroupName=group)
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise

    def new_lines(
        self, group: str, stream: str, token: str | None = None
    ) -> tuple[list[str], str | None]:
        """Return a stream's lines after those that came with `token`, and the next token.

        A stream that does not exist yet has no lines.
        """
        place: dict[str, Any] = {"logGroupName": group, "logStreamName": stream}
        lines: list[str] = []
        while True:
            more = {"nextToken": token} if token else {}
            try:
                page = self._client.get_log_events(**place, **more, startFromHead=True)
            except ClientError as error:
                if code_of(error) != _MISSING:
                    raise
                return lines, token
            lines += [event.get("message", "").rstrip() for event in page["events"]]
            # At its end, a stream returns the token that it was given.
            if page["nextForwardToken"] == token:
                return lines, token
            token = page["nextForwardToken"]

    def load_failures(self, group: str, since_milliseconds: int, most: int = 10) -> list[str]:
        """Return the last lines since then that report a model that could not be loaded."""
        return list(self.load_failure_events(group, since_milliseconds).values())[-most:]

    def load_failure_events(self, group: str, since_milliseconds: int) -> dict[str, str]:
        """Return the lines since then that report a model that could not be loaded, by event.

        The same event has the same key whenever it is read again.
        """
        # `?` makes a term optional, so that one of them is enough.
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
        pattern = " ".join(f'?"{phrase}"' for phrase in _LOAD_FAILURES)
        pages = self._client.get_paginator("filter_log_events")
        lines: dict[str, str] = {}
        try:
            for page in pages.paginate(
                logGroupName=group, startTime=since_milliseconds, filterPattern=pattern
            ):
                for event in page["events"]:
                    # The service model promises neither id nor message.
                    line = event.get("message", "").rstrip()
                    lines[event.get("eventId", line)] = line
        except ClientError as error:
            # The group appears with the container's first line.
            if code_of(error) != _MISSING:
                raise
        return lines
