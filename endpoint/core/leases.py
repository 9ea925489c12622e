"""The lease of a real-time endpoint: how long it lives without being used.

A one-time schedule of EventBridge Scheduler deletes the endpoint. Its description is the only
record of the lease, as JSON, which the gateway reads as well:

    {"hours": 2.0, "config": "easel-main-sd-1a2b3c4d", "usd_per_hour": 0.736}

`hours` is null for an endpoint without an end, `config` the endpoint configuration to create it
from again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

DEFAULT_HOURS = 2.0
# The creation of an endpoint takes up to a quarter of an hour.
_SHORTEST, _LONGEST = 0.5, 31 * 24.0
_FORM = re.compile(r"(\d+(?:\.\d+)?)([hmd])")
_HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0}
_MOMENT = "at(%Y-%m-%dT%H:%M:%S)"


@dataclass(frozen=True)
class Lease:
    """How long an endpoint may be idle.

    Attributes:
        hours: None for ever.
    """

    hours: float | None = DEFAULT_HOURS

    @classmethod
    def parse(cls, text: str) -> Lease:
        """Read `8h`, `30m`, `2d` or `never`; raises ValueError for anything else."""
        if text == "never":
            return cls(None)
        match = _FORM.fullmatch(text)
        hours = float(match[1]) * _HOURS[match[2]] if match else 0.0
        if not _SHORTEST <= hours <= _LONGEST:
            raise ValueError(f"{text!r} is no lease: from 30m to 31d, such as 8h, or never")
        return cls(hours)

    def __str__(self) -> str:
        if self.hours is None:
            return "never"
        return f"{self.hours:g}h" if self.hours >= 1 else f"{self.hours * 60:g}m"

    def end(self, now: datetime) -> datetime:
        """Return when an endpoint ends that was used now, in whole seconds."""
        # A disabled schedule has a moment as well.
        return (now + timedelta(hours=self.hours or DEFAULT_HOURS)).replace(microsecond=0)


@dataclass(frozen=True)
class Scheduled:
    """What a schedule says about its endpoint.

    Attributes:
        lease: its lease.
        config: its endpoint configuration.
        usd_per_hour: the highest price of one of its instances; None if unknown.
        ends: when the schedule deletes it.
        active: whether it does.
    """

    lease: Lease
    config: str
    usd_per_hour: float | None
    ends: datetime
    active: bool

    @classmethod
    def read(cls, schedule: dict[str, Any]) -> Scheduled:
        """Read EventBridge Scheduler's description of a schedule."""
        said = json.loads(schedule.get("Description") or "{}")
        return cls(
            Lease(said.get("hours", DEFAULT_HOURS)),
            str(said.get("config", "")),
            said.get("usd_per_hour"),
            datetime.strptime(schedule["ScheduleExpression"], _MOMENT).replace(tzinfo=UTC),
            schedule.get("State") != "DISABLED",
        )

    def definition(self, endpoint: str, role: str, partition: str) -> dict[str, Any]:
        """Return the schedule of an endpoint, as CreateSchedule and UpdateSchedule take it."""
        said = {
            "hours": self.lease.hours,
            "config": self.config,
            "usd_per_hour": self.usd_per_hour,
        }
        return {
            "Description": json.dumps(said),
            "ScheduleExpression": self.ends.strftime(_MOMENT),
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "State": "ENABLED" if self.active else "DISABLED",
            # It stays as the record of the lease.
            "ActionAfterCompletion": "NONE",
            "Target": {
                # Without a Lambda in between: nothing else has to work.
                # https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
                "Arn": f"arn:{partition}:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
                "RoleArn": role,
                "Input": json.dumps({"EndpointName": endpoint}),
            },
        }
