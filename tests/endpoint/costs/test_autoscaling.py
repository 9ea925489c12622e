from __future__ import annotations

from dataclasses import replace

import pytest

from endpoint.costs.autoscaling import MINUTE, Minute, Policies, State, step

BOTH = Policies(
    least=0,
    most=4,
    target=2.0,
    scale_in_cooldown=600,
    scale_out_cooldown=300,
    wake_seconds=120,
    wake_step=1,
    wake_exactly=True,
    wake_cooldown=300,
)
TRACKING = {
    "TargetValue": 2.0,
    "CustomizedMetricSpecification": {"MetricName": "ApproximateBacklogSizePerInstance"},
    "ScaleInCooldown": 600,
}
STEP = {
    "AdjustmentType": "ExactCapacity",
    "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
}
ALARM = {
    "MetricName": "HasBacklogWithoutCapacity",
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "Threshold": 1,
    "Period": 60,
    "EvaluationPeriods": 3,
    "DatapointsToAlarm": 2,
}


def actions(policies, minutes):
    """Return each minute's action, with nothing carried out in between."""
    state, result = State(), []
    for number, minute in enumerate(minutes, 1):
        state, change = step(policies, state, minute, number * MINUTE)
        result.append(change)
    return result


def asleep(starting=0):
    return Minute(backlog=1, waiting=True, ready=0, starting=starting, busy=0)


def awake(backlog, ready=1, busy=0):
    return Minute(backlog=backlog, waiting=backlog > ready, ready=ready, starting=0, busy=busy)


def test_a_backlog_without_an_instance_wakes_the_endpoint_after_the_alarm_and_a_minute():
    assert actions(BOTH, [asleep()] * 3) == [0, 0, 1]


def test_a_step_that_adds_is_repeated_after_its_cooldown_while_no_instance_is_ready():
    adding = replace(BOTH, wake_exactly=False)
    minutes = [asleep()] * 3 + [asleep(starting=1)] * 5

    assert actions(adding, minutes) == [0, 0, 1, 0, 0, 0, 0, 1]


def test_a_step_to_an_exact_number_starts_no_second_instance_however_slow_the_first_is():
    minutes = [asleep()] * 3 + [asleep(starting=1)] * 30

    assert actions(BOTH, minutes) == [0, 0, 1] + [0] * 30


def test_waking_never_exceeds_the_most_instances():
    assert actions(BOTH, [asleep(starting=4)] * 10) == [0] * 10


def test_without_the_step_policy_zero_is_never_left():
    policies = Policies.read(0, 4, TRACKING, None, ALARM)

    assert actions(policies, [asleep()] * 60) == [0] * 60


def test_capacity_is_proportional_to_the_backlog():
    assert actions(BOTH, [awake(5)] * 4) == [0, 0, 0, 2]
    assert actions(BOTH, [awake(50)] * 4) == [0, 0, 0, 3]


def test_scaling_out_waits_for_its_cooldown():
    assert actions(BOTH, [awake(5)] * 9) == [0, 0, 0, 2, 0, 0, 0, 0, 2]


def test_a_quarter_of_an_hour_of_idleness_scales_in_to_the_least():
    assert actions(BOTH, [awake(0, ready=3)] * 16) == [0] * 15 + [-3]


def test_a_busy_instance_is_not_scaled_in():
    assert actions(BOTH, [awake(1, ready=2, busy=1)] * 16)[-1] == -1


def test_a_single_busy_minute_starts_the_idle_quarter_again():
    minutes = [awake(0)] * 15 + [awake(3)] + [awake(0)] * 15

    assert actions(BOTH, minutes) == [0] * 31


def test_policies_are_read_from_what_the_api_was_given():
    assert Policies.read(0, 4, TRACKING, STEP, ALARM) == BOTH


@pytest.mark.parametrize(
    "change",
    [
        {"ComparisonOperator": "GreaterThanThreshold"},
        {"Threshold": 2},
        {"MetricName": "ApproximateBacklogSize"},
    ],
)
def test_an_alarm_that_cannot_fire_wakes_nothing(change):
    assert Policies.read(0, 4, TRACKING, STEP, {**ALARM, **change}).wake_seconds is None


def test_tracking_of_another_metric_scales_nothing():
    other = {**TRACKING, "CustomizedMetricSpecification": {"MetricName": "Invocations"}}
    policies = Policies.read(0, 4, other, STEP, ALARM)

    assert actions(policies, [awake(50)] * 60) == [0] * 60
