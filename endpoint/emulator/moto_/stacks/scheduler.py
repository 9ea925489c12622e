"""A stack's group and schedules of EventBridge Scheduler."""

from __future__ import annotations

from typing import Any

from moto.scheduler.models import scheduler_backends

from endpoint.emulator.moto_.stacks.resource import StackResource


class ScheduleGroup(StackResource):
    """AWS::Scheduler::ScheduleGroup. An update could change its tags only, and is ignored."""

    @classmethod
    def make(
        cls, name: str, properties: dict[str, Any], account: str, region: str
    ) -> ScheduleGroup:
        """Create the group."""
        name = properties.get("Name", name)
        backend = scheduler_backends[account][region]
        backend.create_schedule_group(name=name, tags=properties.get("Tags", []))
        return cls(name)

    @classmethod
    def remove(cls, name: str, account: str, region: str) -> None:
        """Delete the group with its schedules."""
        scheduler_backends[account][region].schedule_groups.pop(name, None)


class Schedule(StackResource):
    """AWS::Scheduler::Schedule."""

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], account: str, region: str) -> Schedule:
        """Create the schedule."""
        name, options = properties.get("Name", name), _options(properties)
        backend = scheduler_backends[account][region]
        backend.create_schedule(name=name, action_after_completion=None, **options)
        # Not the name alone, as in CloudFormation: a deletion names the group by its reference.
        return cls(f"{options['group_name']}/{name}")

    def change(self, properties: dict[str, Any], account: str, region: str) -> None:
        """Give the schedule the properties of an update."""
        name = self.physical_resource_id.partition("/")[2]
        backend = scheduler_backends[account][region]
        backend.update_schedule(name=name, **_options(properties))

    @classmethod
    def remove(cls, name: str, account: str, region: str) -> None:
        """Delete the schedule, if its group still exists."""
        group, _, own = name.partition("/")
        groups = scheduler_backends[account][region].schedule_groups
        if group in groups:
            groups[group].schedules.pop(own, None)


def _options(properties: dict[str, Any]) -> dict[str, Any]:
    """Return moto's options for a schedule of these properties."""
    return {
        "description": properties.get("Description"),
        "end_date": None,
        "flexible_time_window": properties["FlexibleTimeWindow"],
        "group_name": properties.get("GroupName", "default"),
        "kms_key_arn": None,
        "schedule_expression": properties["ScheduleExpression"],
        "schedule_expression_timezone": properties.get("ScheduleExpressionTimezone"),
        "start_date": None,
        "state": properties.get("State"),
        "target": properties["Target"],
    }
