"""EventBridge Scheduler: the schedules that end endpoints. They are free of charge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import code_of

_MISSING = "ResourceNotFoundException"


class Schedules:
    """Schedules by their group and name."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def find(self, group: str, name: str) -> dict[str, Any] | None:
        """Return the description of a schedule; None if it, or its group, does not exist."""
        try:
            found: dict[str, Any] = self._client.get_schedule(GroupName=group, Name=name)
        except ClientError as error:
            if code_of(error) == _MISSING:
                return None
            raise
        return found

    def put(self, group: str, name: str, definition: dict[str, Any], *, exists: bool) -> None:
        """Create a schedule, or replace it."""
        call = self._client.update_schedule if exists else self._client.create_schedule
        call(GroupName=group, Name=name, **definition)

    def delete(self, group: str, name: str) -> None:
        """Delete a schedule, if it exists."""
        try:
            self._client.delete_schedule(GroupName=group, Name=name)
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise

    def groups(self, prefix: str) -> list[str]:
        """Return the names of the groups with a prefix."""
        pages = self._client.get_paginator("list_schedule_groups").paginate(NamePrefix=prefix)
        return [item["Name"] for page in pages for item in page["ScheduleGroups"]]

    def of(self, group: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the schedules of a group whose names have a prefix; none without the group."""
        pages = self._client.get_paginator("list_schedules")
        try:
            listed = pages.paginate(GroupName=group, NamePrefix=prefix).build_full_result()
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise
            return
        for item in listed["Schedules"]:
            # The list has no expressions. A schedule can disappear meanwhile.
            if found := self.find(group, item["Name"]):
                yield item["Name"], found
