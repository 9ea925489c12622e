"""Application Auto Scaling of asynchronous endpoints, on the emulator's clock.

Reads the policies and alarms that scripts put into moto, feeds `endpoint/costs/autoscaling.py` with
each minute's load, and changes the number of instances as it decides. Nothing scales without what a
script installed, as on AWS, so a missing policy shows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from endpoint.costs.autoscaling import COLD_START_SECONDS, MINUTE, Minute, Policies, State, step
from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.process.repeating import repeating
from endpoint.emulator.sagemaker.async_queue import AsyncQueue
from endpoint.emulator.sagemaker.control_plane import Endpoint, async_endpoints, set_instances

# How often to sample the backlog, in emulated seconds, and at least in real ones.
_POLL_SECONDS, _LEAST_PAUSE = 5.0, 0.02


@dataclass
class _Scaled:
    """What is kept of one endpoint between two polls."""

    next_minute: float
    state: State = field(default_factory=State)
    samples: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)


class Autoscaler:
    """Polls every asynchronous endpoint."""

    def __init__(self, clock: Clock, queue: AsyncQueue) -> None:
        self._clock, self._queue = clock, queue
        self._scaled: dict[tuple[str, str, object], _Scaled] = {}

    def running(self) -> AbstractContextManager[None]:
        """Poll in a thread while the context lasts."""
        return repeating(self._poll_all, self._pause, "autoscaler")

    def _pause(self) -> float:
        return max(self._clock.real(_POLL_SECONDS), _LEAST_PAUSE)

    def _poll_all(self) -> None:
        for endpoint in list(async_endpoints()):
            self.poll(endpoint)

    def poll(self, endpoint: Endpoint) -> None:
        """Do what the endpoint's policies have decided by now."""
        policies = find_policies(endpoint)
        if policies is None:
            return
        now = self._clock.now()
        key = (endpoint.region, endpoint.name, endpoint.created)
        scaled = self._scaled.setdefault(key, _Scaled(_minute_after(now)))
        waiting, under_way = self._queue.waiting(endpoint.name), self._queue.under_way(endpoint)
        scaled.samples.append(waiting + under_way)
        instances = endpoint.instances
        # At a high speed, or after a skip, several minutes have passed since the last poll. They
        # are assumed to have been like this moment.
        while scaled.next_minute <= now:
            instances += _arrived(scaled, scaled.next_minute)
            minute = Minute(
                backlog=statistics.fmean(scaled.samples or [waiting + under_way]),
                waiting=waiting > 0,
                ready=instances,
                starting=len(scaled.arrivals),
                busy=math.ceil(under_way / _concurrency(endpoint)),
            )
            scaled.state, change = step(policies, scaled.state, minute, scaled.next_minute)
            scaled.arrivals += [scaled.next_minute + COLD_START_SECONDS] * change
            instances += min(change, 0)
            scaled.samples = []
            scaled.next_minute += MINUTE
        instances += _arrived(scaled, now)
        if instances != endpoint.instances:
            set_instances(endpoint, instances)


def _minute_after(now: float) -> float:
    return (now // MINUTE + 1) * MINUTE


def _arrived(scaled: _Scaled, now: float) -> int:
    """Return how many instances have started by `now`, and forget that they were starting."""
    left = [moment for moment in scaled.arrivals if moment > now]
    count = len(scaled.arrivals) - len(left)
    scaled.arrivals = left
    return count


def _concurrency(endpoint: Endpoint) -> int:
    return endpoint.asynchronous.concurrency if endpoint.asynchronous else 1


def find_policies(endpoint: Endpoint) -> Policies | None:
    """Return what is installed for the endpoint's variant; None without a scalable target."""
    # Imported late: it makes a boto3 session, which fails on some users' AWS settings.
    from moto.applicationautoscaling.models import applicationautoscaling_backends

    backend = applicationautoscaling_backends[ACCOUNT][endpoint.region]
    resource = f"endpoint/{endpoint.name}/variant/{endpoint.variant}"
    targets = [
        target
        for target in backend.describe_scalable_targets("sagemaker", [resource], None)
        if target.scalable_dimension == "sagemaker:variant:DesiredInstanceCount"
    ]
    if not targets:
        return None
    policies = [policy for policy in backend.policies.values() if policy.resource_id == resource]
    tracking = [policy.target_tracking_scaling_policy_configuration for policy in policies]
    steps = {
        policy.policy_arn: policy.step_scaling_policy_configuration
        for policy in policies
        if policy.step_scaling_policy_configuration
    }
    arn, alarm = next(_alarms(endpoint, set(steps)), ("", None))
    return Policies.read(
        int(targets[0].min_capacity or 0),
        int(targets[0].max_capacity or 0),
        next(filter(None, tracking), None),
        steps.get(arn),
        alarm,
    )


def _alarms(endpoint: Endpoint, steps: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the endpoint's alarms that start one of these step policies, with its ARN."""
    from moto.cloudwatch.models import cloudwatch_backends

    for alarm in cloudwatch_backends[ACCOUNT][endpoint.region].alarms.values():
        watches = any(
            dimension.name == "EndpointName" and dimension.value == endpoint.name
            for dimension in alarm.dimensions
        )
        for arn in steps & set(alarm.alarm_actions):
            if watches:
                yield (
                    arn,
                    {
                        "MetricName": alarm.metric_name,
                        "ComparisonOperator": alarm.comparison_operator,
                        "Threshold": alarm.threshold,
                        "Period": alarm.period,
                        "EvaluationPeriods": alarm.evaluation_periods,
                        "DatapointsToAlarm": alarm.datapoints_to_alarm,
                    },
                )
