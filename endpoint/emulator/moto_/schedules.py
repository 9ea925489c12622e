"""EventBridge Scheduler, whose schedules moto 5.2.5 keeps and never carries out.

What is known, and what is assumed:

- A one-time schedule is carried out once, at its moment in UTC; a `rate` one again and again, the
  first time one interval after it was made.
  https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
- Its role must trust scheduler.amazonaws.com, and allow the call.
  https://docs.aws.amazon.com/scheduler/latest/UserGuide/setting-up.html
- A call that its service refuses as invalid is not repeated, as assumed here: the retry policy says
  how often Scheduler repeats, and nothing says which errors it does that for. The guard makes up
  for it.
- A moment in the past is carried out at once, as assumed here; nothing documents it.
- A group is deleted with its schedules.
  https://docs.aws.amazon.com/scheduler/latest/APIReference/API_DeleteScheduleGroup.html
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError
from moto.scheduler.models import (
    EventBridgeSchedulerBackend,
    Schedule,
    scheduler_backends,
)

from endpoint.emulator.moto_.patching import InUse, replace
from endpoint.emulator.moto_.roles import trusts
from endpoint.emulator.process.repeating import repeating

logger = logging.getLogger(__name__)

_PRINCIPAL = "scheduler.amazonaws.com"
_MOMENT = "at(%Y-%m-%dT%H:%M:%S)"
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNIVERSAL = re.compile(r"arn:[a-z-]+:scheduler:::aws-sdk:([a-z0-9]+):(\w+)")
_SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400}
_POLL_SECONDS = 0.5


class NotCarriedOut(Exception):
    """A schedule's target cannot be called; the message says why."""


class Schedules:
    """Carries out the schedules of an account in a region.

    Args:
        now: the time, in UTC.
        client: returns a boto3 client of a service in a region.
        invoke: calls a Lambda function, by its region and name, and with its event.
        allows: whether a role, by its ARN, may take an action on a resource.

    Attributes:
        shift: what is added to moments that are set, where the callers have another clock.
        failed: why schedules were not carried out.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        client: Callable[[str, str], Any],
        invoke: Callable[[str, str, Any], Any],
        allows: Callable[[str, str, str], bool] = lambda *_: True,
        shift: Callable[[], timedelta] = timedelta,
    ) -> None:
        self.now = now
        self.shift = shift
        self._client, self._invoke, self._allows = client, invoke, allows
        self.failed: list[str] = []

    def next_due(self, account: str, region: str) -> datetime | None:
        """Return when the next schedule is due; None if there is none."""
        return min((due for due, _ in self._due(account, region)), default=None)

    def run_due(self, account: str, region: str) -> None:
        """Carry out what is due, in the order of its moments."""
        now = self.now()
        for due, schedule in sorted(self._due(account, region), key=lambda pair: pair[0]):
            if due <= now:
                vars(schedule)["carried_out"] = (schedule.schedule_expression, now)
                self._carry_out(account, region, schedule)

    def _due(self, account: str, region: str) -> Iterator[tuple[datetime, Schedule]]:
        for group in list(scheduler_backends[account][region].schedule_groups.values()):
            for schedule in list(group.schedules.values()):
                if schedule.state != "DISABLED" and (due := self._moment(schedule)):
                    yield due, schedule

    def _moment(self, schedule: Schedule) -> datetime | None:
        own, text = vars(schedule), schedule.schedule_expression
        expression, last = own.get("carried_out", ("", None))
        if rate := _RATE.fullmatch(text):
            begun: datetime = last or own.setdefault("begun", self.now())
            return begun + timedelta(seconds=int(rate[1]) * _SECONDS[rate[2]])
        if expression == text:  # once
            return None
        return datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)

    def _carry_out(self, account: str, region: str, schedule: Schedule) -> None:
        try:
            self._call(account, region, schedule.target)
        except (ClientError, NotCarriedOut) as error:
            self.failed.append(f"{schedule.name}: {error}")
            logger.warning("A schedule was not carried out: %s", self.failed[-1])

    def _call(self, account: str, region: str, target: dict[str, Any]) -> None:
        role = target["RoleArn"]
        if not trusts(account, role, _PRINCIPAL):
            raise NotCarriedOut(f"{_PRINCIPAL} cannot assume the role {role}")
        given = json.loads(target.get("Input") or "{}")
        if ":function:" in target["Arn"]:
            self._require(role, "lambda:InvokeFunction", target["Arn"])
            self._invoke(region, target["Arn"].rpartition(":")[2], given)
            return
        match = _UNIVERSAL.fullmatch(target["Arn"])
        if match is None:
            raise NotCarriedOut(f"{target['Arn']} is no target that is emulated")
        service, action = match[1], match[2][0].upper() + match[2][1:]
        # Of the calls that this project makes: they are about an endpoint.
        resource = f"arn:{target['Arn'].split(':')[1]}:{service}:{region}:{account}:endpoint/"
        self._require(role, f"{service}:{action}", resource + given.get("EndpointName", ""))
        getattr(self._client(service, region), xform_name(action))(**given)

    def _require(self, role: str, action: str, resource: str) -> None:
        if not self._allows(role, action, resource):
            raise NotCarriedOut(f"the role {role} does not allow {action} on {resource}")


_service = InUse["Schedules | None"](None)


def schedules(use: Schedules) -> AbstractContextManager[None]:
    """Let the clock of `use` be that of schedules made while the context lasts."""
    return _service.use(use)


def running(use: Schedules, account: str) -> AbstractContextManager[None]:
    """Carry out all schedules of an account in a thread while the context lasts.

    The thread does nothing while other schedules are in use: theirs have another clock.
    """

    def run_due() -> None:
        if _service.value is use:
            for region in list(scheduler_backends[account]):
                use.run_due(account, region)

    return repeating(run_due, lambda: _POLL_SECONDS, "schedules")


def install() -> None:
    """Patch moto's classes."""
    replace(EventBridgeSchedulerBackend, "create_schedule", _shifted)
    replace(EventBridgeSchedulerBackend, "update_schedule", _shifted)


def _shifted(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: EventBridgeSchedulerBackend, *arguments: Any, **options: Any) -> Any:
        text = options.get("schedule_expression", "")
        if text.startswith("at(") and _service.value is not None:
            moment = datetime.strptime(text, _MOMENT) + _service.value.shift()
            options["schedule_expression"] = moment.strftime(_MOMENT)
        return original(self, *arguments, **options)

    return call
