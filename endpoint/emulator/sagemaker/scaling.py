"""Application Auto Scaling of asynchronous endpoints: what their policies would do, in time.

Only what scripts install makes anything happen, as on AWS, so a missing policy shows:

* out of zero: a step policy behind an alarm on HasBacklogWithoutCapacity, once that has been true
  for the alarm's periods. Target tracking alone never leaves zero.
* out, and in: target tracking on ApproximateBacklogSizePerInstance, after three minutes above its
  target, or fifteen well below it.

https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-autoscale.html
https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.control_plane import (
    ACCOUNT,
    Endpoint,
    async_endpoints,
    set_instances,
)

# What was reported for new instances: 5 to 10 minutes with the alarm's own two or three.
COLD_START_SECONDS = 300.0
_CROWDED_SECONDS = 3 * 60.0
_IDLE_SECONDS = 15 * 60.0
# "Well below": target tracking's lower alarm stands at nine tenths of the target.
_WELL_BELOW = 0.9
# How often to look, in emulated seconds, and at least in real ones.
_LOOK_SECONDS, _LEAST_PAUSE = 5.0, 0.02


@dataclass
class _Seen:
    """Since when something has been true of an endpoint, and which instances are on their way."""

    stuck: float | None = None
    crowded: float | None = None
    idle: float | None = None
    arriving: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Policies:
    """What is installed for an endpoint.

    Attributes:
        least, most: the scalable target's limits.
        target: target tracking's value, None without such a policy on the backlog.
        wake_seconds: how long the alarm must see its condition; None without alarm or step policy.
    """

    least: int
    most: int
    target: float | None
    wake_seconds: float | None


class Autoscaler:
    """Looks at every asynchronous endpoint from time to time, in a thread of its own.

    Args:
        clock: of the emulated services.
        backlog: how many requests of an endpoint wait, or are under way.
    """

    def __init__(self, clock: Clock, backlog: Callable[[Endpoint], int]) -> None:
        self._clock, self._backlog = clock, backlog
        self._seen: dict[tuple[str, str, object], _Seen] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="autoscaler")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(max(self._clock.real(_LOOK_SECONDS), _LEAST_PAUSE)):
            for endpoint in list(async_endpoints()):
                self.look(endpoint)

    def look(self, endpoint: Endpoint) -> None:
        """Do what the endpoint's policies would do by now."""
        policies = find_policies(endpoint)
        if policies is None:
            return
        key = (endpoint.region, endpoint.name, endpoint.created)
        seen = self._seen.setdefault(key, _Seen())
        now, backlog = self._clock.now(), self._backlog(endpoint)
        instances = self._arrivals(endpoint, seen, now)
        self._note(seen, policies, now, backlog, instances)
        coming = instances + len(seen.arriving)
        if _lasted(seen.stuck, policies.wake_seconds, now) and coming == 0:
            seen.arriving.append(now + COLD_START_SECONDS)
        elif _lasted(seen.crowded, _CROWDED_SECONDS, now) and coming < policies.most:
            seen.arriving.append(now + COLD_START_SECONDS)
            seen.crowded = None
        elif _lasted(seen.idle, _IDLE_SECONDS, now) and instances > policies.least:
            set_instances(endpoint, policies.least)

    def _arrivals(self, endpoint: Endpoint, seen: _Seen, now: float) -> int:
        arrived = [moment for moment in seen.arriving if moment <= now]
        if not arrived:
            return endpoint.instances
        seen.arriving = [moment for moment in seen.arriving if moment > now]
        set_instances(endpoint, endpoint.instances + len(arrived))
        return endpoint.instances + len(arrived)

    def _note(
        self, seen: _Seen, policies: Policies, now: float, backlog: int, instances: int
    ) -> None:
        tracked = policies.target is not None and instances > 0
        each = backlog / instances if instances else 0.0
        target = policies.target or 0.0
        seen.stuck = _since(seen.stuck, instances == 0 and backlog > 0, now)
        seen.crowded = _since(seen.crowded, tracked and each > target, now)
        seen.idle = _since(seen.idle, tracked and each < target * _WELL_BELOW, now)


def _since(before: float | None, is_true: bool, now: float) -> float | None:
    if not is_true:
        return None
    return now if before is None else before


def _lasted(since: float | None, seconds: float | None, now: float) -> bool:
    return since is not None and seconds is not None and now - since >= seconds


def find_policies(endpoint: Endpoint) -> Policies | None:
    """Return what is installed for the endpoint's variant; None without a scalable target."""
    # Not at the top: importing it makes a boto3 session, which may fail on a person's settings.
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
    policies = [each for each in backend.policies.values() if each.resource_id == resource]
    return Policies(
        least=int(targets[0].min_capacity or 0),
        most=int(targets[0].max_capacity or 0),
        target=next(_targets(policies), None),
        wake_seconds=next(_wake_seconds(endpoint, policies), None),
    )


def _targets(policies: list[Any]) -> Iterator[float]:
    for policy in policies:
        tracking = policy.target_tracking_scaling_policy_configuration or {}
        metric = tracking.get("CustomizedMetricSpecification") or {}
        if metric.get("MetricName") == "ApproximateBacklogSizePerInstance":
            yield float(tracking["TargetValue"])


def _wake_seconds(endpoint: Endpoint, policies: list[Any]) -> Iterator[float]:
    steps = {each.policy_arn for each in policies if each.step_scaling_policy_configuration}
    from moto.cloudwatch.models import cloudwatch_backends

    for alarm in cloudwatch_backends[ACCOUNT][endpoint.region].alarms.values():
        watches = any(
            each.name == "EndpointName" and each.value == endpoint.name for each in alarm.dimensions
        )
        if not watches or not steps & set(alarm.alarm_actions):
            continue
        # "Greater than 1" never comes true: the metric is 0 or 1.
        above = alarm.comparison_operator == "GreaterThanOrEqualToThreshold"
        if alarm.metric_name == "HasBacklogWithoutCapacity" and above and alarm.threshold <= 1:
            yield float(alarm.period) * int(alarm.evaluation_periods)
