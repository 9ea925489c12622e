from __future__ import annotations

import time

import pytest

from endpoint.costs.autoscaling import COLD_START_SECONDS
from tests.endpoint.emulator.doubles import REGION, wait_until
from tests.endpoint.emulator.sagemaker.doubles import exists, submit, wait_for

# Emulated seconds for one real one: an hour passes in three.
SPEED = 1_200


class Account:
    """Scales one endpoint as a create script does."""

    def __init__(self, clients, endpoint):
        self.endpoint = endpoint
        self._scaling = clients.get("application-autoscaling", REGION)
        self._alarms = clients.get("cloudwatch", REGION)
        self._sagemaker = clients.get("sagemaker", REGION)
        self._place = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{endpoint}/variant/AllTraffic",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }
        self._scaling.register_scalable_target(**self._place, MinCapacity=0, MaxCapacity=2)

    def track_the_backlog(self, target=2.0):
        metric = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": self.endpoint}],
            "Statistic": "Average",
        }
        self._scaling.put_scaling_policy(
            **self._place,
            PolicyName="backlog",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": target,
                "CustomizedMetricSpecification": metric,
            },
        )

    def wake(self, comparison="GreaterThanOrEqualToThreshold"):
        step = {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}
        policy = self._scaling.put_scaling_policy(
            **self._place,
            PolicyName="wake",
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": [step],
            },
        )
        self._alarms.put_metric_alarm(
            AlarmName=f"{self.endpoint}-wake",
            Namespace="AWS/SageMaker",
            MetricName="HasBacklogWithoutCapacity",
            Dimensions=[{"Name": "EndpointName", "Value": self.endpoint}],
            Statistic="Average",
            Period=60,
            EvaluationPeriods=2,
            Threshold=1,
            ComparisonOperator=comparison,
            AlarmActions=[policy["PolicyARN"]],
        )

    def have(self, instances):
        self._sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=self.endpoint,
            DesiredWeightsAndCapacities=[
                {"VariantName": "AllTraffic", "DesiredInstanceCount": instances}
            ],
        )

    @property
    def instances(self):
        described = self._sagemaker.describe_endpoint(EndpointName=self.endpoint)
        return int(described["ProductionVariants"][0]["CurrentInstanceCount"])

    def stop_scaling(self):
        if self._scaling.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[self._place["ResourceId"]]
        )["ScalableTargets"]:
            self._scaling.deregister_scalable_target(**self._place)


@pytest.fixture
def account(clients, async_endpoint):
    account = Account(clients, async_endpoint)
    yield account
    account.stop_scaling()


def pass_time(switches, seconds):
    """Let emulated time pass while the autoscaler looks on, minute by minute."""
    for _ in range(int(seconds // 60)):
        switches.set_clock(skip=60)
        time.sleep(0.03)  # longer than the autoscaler's shortest pause


def test_a_request_wakes_an_endpoint_with_both_policies(account, switches, runtime, s3):
    account.track_the_backlog()
    account.wake()
    account.have(0)
    # Slow enough for this process to look before a quarter of an hour of idleness is over.
    switches.set_clock(speed=SPEED / 4)
    answer = submit(runtime, account.endpoint)

    wait_for(s3, answer["OutputLocation"])
    assert account.instances == 1


def test_waking_takes_the_alarms_time_and_a_cold_start(account, switches, runtime, s3):
    account.wake()
    account.have(0)
    switches.set_clock(speed=500)
    answer = submit(runtime, account.endpoint)
    pass_time(switches, 60)

    assert COLD_START_SECONDS > 60
    assert account.instances == 0
    assert not exists(s3, answer["OutputLocation"])
    wait_until(lambda: account.instances == 1)


def test_target_tracking_alone_never_leaves_zero(account, switches, runtime):
    account.track_the_backlog()
    account.have(0)
    switches.set_clock(speed=SPEED)
    submit(runtime, account.endpoint)
    pass_time(switches, 3_600)

    assert account.instances == 0
    assert switches.waiting(account.endpoint) == 1


def test_an_alarm_that_waits_for_more_than_one_never_fires(account, switches, runtime):
    account.wake("GreaterThanThreshold")
    account.have(0)
    switches.set_clock(speed=SPEED)
    submit(runtime, account.endpoint)
    pass_time(switches, 3_600)

    assert account.instances == 0


def test_an_idle_endpoint_goes_to_zero(account, switches):
    account.track_the_backlog()
    account.have(2)
    switches.set_clock(speed=SPEED)

    wait_until(lambda: account.instances == 0)


def test_an_endpoint_without_target_tracking_never_scales_in(account, switches):
    account.wake()
    switches.set_clock(speed=SPEED)
    pass_time(switches, 3_600)

    assert account.instances == 1


def test_a_backlog_adds_instances_up_to_the_limit(account, switches, runtime):
    account.track_the_backlog()
    switches.set_container(account.endpoint, None)
    with switches.fault(account.endpoint, "cold"):
        for _ in range(12):
            submit(runtime, account.endpoint)
        switches.set_clock(speed=SPEED)
        wait_until(lambda: account.instances == 2)
        pass_time(switches, 1_800)

        assert account.instances == 2
        switches.set_clock(speed=1)


def test_without_a_scalable_target_nothing_scales(account, switches):
    account.track_the_backlog()
    account.stop_scaling()
    switches.set_clock(speed=SPEED)
    pass_time(switches, 3_600)

    assert account.instances == 1
