"""Application Auto Scaling of an asynchronous endpoint: a minute's load in, an action out.

Two policies work together, because neither is enough alone:

* step scaling behind an alarm on HasBacklogWithoutCapacity leaves zero instances
* target tracking on ApproximateBacklogSizePerInstance adds and removes instances above zero

What AWS adds to the policies, and what is assumed where its documentation does not say:

* an alarm evaluates a minute when it is over, and acts a minute later
* target tracking acts after three minutes above its target, or fifteen below nine tenths of it, and
  then makes the capacity proportional to the metric, rounded up
* both policies count cooldowns from the last scale-out, and scale-in also from the last scale-in

This module calls no AWS and reads no clock: the emulator and the cost simulation both use it.

https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-autoscale.html
https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MINUTE = 60.0
# Reported for new GPU instances: 5 to 10 minutes, of which the alarm takes two or three.
COLD_START_SECONDS = 300.0
_CROWDED_MINUTES, _IDLE_MINUTES = 3, 15
# How long the last instances run for nothing, as far as target tracking decides it.
IDLE_SECONDS = _IDLE_MINUTES * MINUTE
# Target tracking's lower alarm is at nine tenths of the target.
_WELL_BELOW = 0.9
_DELAY_MINUTES = 1
# For SageMaker's variants, where a policy does not set one (both policies' API references).
_DEFAULT_COOLDOWN = 300


@dataclass(frozen=True)
class Policies:
    """The scaling policies of one endpoint; times in seconds.

    Attributes:
        least, most: the scalable target's limits.
        target: the backlog for each instance that target tracking aims at; None without it.
        wake_seconds: how long the alarm must see a backlog without an instance; None without an
            alarm that can fire and a step policy behind it.
        wake_step: how many instances it adds, or sets if `wake_exactly`.
        wake_exactly: whether it sets the number of instances.
    """

    least: int
    most: int
    target: float | None
    scale_in_cooldown: float
    scale_out_cooldown: float
    wake_seconds: float | None
    wake_step: int
    wake_exactly: bool
    wake_cooldown: float

    @classmethod
    def read(
        cls,
        least: int,
        most: int,
        tracking: Mapping[str, Any] | None,
        step: Mapping[str, Any] | None,
        alarm: Mapping[str, Any] | None,
    ) -> Policies:
        """Return the policies from their configurations in the API's own words.

        Args:
            least: MinCapacity.
            most: MaxCapacity.
            tracking: TargetTrackingScalingPolicyConfiguration.
            step: StepScalingPolicyConfiguration.
            alarm: the parameters of PutMetricAlarm for the alarm that starts the step policy.
        """
        tracking, step = tracking or {}, step or {}
        adjustment: Mapping[str, Any] = next(iter(step.get("StepAdjustments", [])), {})
        return cls(
            least=least,
            most=most,
            target=_target(tracking),
            scale_in_cooldown=tracking.get("ScaleInCooldown", _DEFAULT_COOLDOWN),
            scale_out_cooldown=tracking.get("ScaleOutCooldown", _DEFAULT_COOLDOWN),
            wake_seconds=_wake_seconds(alarm) if alarm and step else None,
            wake_step=int(adjustment.get("ScalingAdjustment", 0)),
            wake_exactly=step.get("AdjustmentType") == "ExactCapacity",
            wake_cooldown=step.get("Cooldown", _DEFAULT_COOLDOWN),
        )


def _target(tracking: Mapping[str, Any]) -> float | None:
    metric = tracking.get("CustomizedMetricSpecification") or {}
    if metric.get("MetricName") != "ApproximateBacklogSizePerInstance":
        return None
    return float(tracking["TargetValue"])


def _wake_seconds(alarm: Mapping[str, Any]) -> float | None:
    # "Greater than 1" never becomes true: the metric is 0 or 1.
    can_fire = (
        alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold" and alarm["Threshold"] <= 1
    )
    if alarm["MetricName"] != "HasBacklogWithoutCapacity" or not can_fire:
        return None
    points = alarm.get("DatapointsToAlarm") or alarm["EvaluationPeriods"]
    return float(alarm["Period"]) * int(points)


@dataclass(frozen=True)
class Minute:
    """What the metrics show of one minute.

    Attributes:
        backlog: requests that wait or run, on average over the minute.
        waiting: whether any request waits.
        ready: instances in service at its end.
        starting: instances on their way at its end.
        busy: instances that work on a request at its end, which scale-in leaves alone.
    """

    backlog: float
    waiting: bool
    ready: int
    starting: int
    busy: int


@dataclass(frozen=True)
class State:
    """What the alarms have seen so far, and when they last acted.

    Attributes:
        stuck, crowded, idle: for how many minutes in a row each condition has been true.
        out, inward: the moments of the last scale-out and scale-in, in seconds.
        backlogs: those of the latest minutes, as many as scale-in looks back.
    """

    stuck: int = 0
    crowded: int = 0
    idle: int = 0
    out: float = -math.inf
    inward: float = -math.inf
    backlogs: tuple[float, ...] = ()


def step(policies: Policies, state: State, minute: Minute, now: float) -> tuple[State, int]:
    """Return the state after a minute that ends at `now`, and the action.

    The action is the number of instances to start, or, below zero, to stop.
    """
    state = _observe(policies, state, minute)
    change = _decide(policies, state, minute, now)
    if change > 0:
        return replace(state, out=now), change
    if change < 0:
        return replace(state, inward=now), change
    return state, 0


def _observe(policies: Policies, state: State, minute: Minute) -> State:
    # The metric is per instance, so it has no value at zero instances.
    tracked = policies.target is not None and minute.ready > 0
    target = policies.target or 0.0
    per_instance = minute.backlog / minute.ready if minute.ready else 0.0
    return replace(
        state,
        stuck=state.stuck + 1 if not minute.ready and minute.waiting else 0,
        crowded=state.crowded + 1 if tracked and per_instance > target else 0,
        idle=state.idle + 1 if tracked and per_instance < target * _WELL_BELOW else 0,
        backlogs=(*state.backlogs, minute.backlog)[-_IDLE_MINUTES:],
    )


def _decide(policies: Policies, state: State, minute: Minute, now: float) -> int:
    if policies.wake_seconds is not None and state.stuck >= (
        policies.wake_seconds / MINUTE + _DELAY_MINUTES
    ):
        return _wake(policies, state, minute, now)
    if policies.target is None:
        return 0
    if state.crowded >= _CROWDED_MINUTES + _DELAY_MINUTES:
        return _scale_out(policies, policies.target, state, minute, now)
    if state.idle >= _IDLE_MINUTES + _DELAY_MINUTES:
        return _scale_in(policies, policies.target, state, minute, now)
    return 0


def _wake(policies: Policies, state: State, minute: Minute, now: float) -> int:
    # The alarm stays on while the first instance starts, so the step is repeated after its
    # cooldown. One that adds can bring more than one instance if the cold start is slow.
    if now - state.out < policies.wake_cooldown:
        return 0
    wanted = policies.wake_step + (0 if policies.wake_exactly else minute.starting)
    return max(0, min(wanted, policies.most) - minute.starting)


def _scale_out(policies: Policies, target: float, state: State, minute: Minute, now: float) -> int:
    if now - state.out < policies.scale_out_cooldown:
        return 0
    needed = min(math.ceil(minute.backlog / target), policies.most)
    return max(0, needed - minute.ready - minute.starting)


def _scale_in(policies: Policies, target: float, state: State, minute: Minute, now: float) -> int:
    """Stop what the last fifteen minutes did not need; a running request is finished first."""
    if now - max(state.inward, state.out) < policies.scale_in_cooldown:
        return 0
    needed = math.ceil(statistics.fmean(state.backlogs) / target)
    return min(0, max(policies.least, needed, minute.busy) - minute.ready)
