"""Application Auto Scaling of asynchronous endpoints, down to zero instances.

This requires two policies. Target tracking uses the backlog per instance, which has no value at
zero instances; so a step policy, behind an alarm on HasBacklogWithoutCapacity, adds the first one.
https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-autoscale.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from endpoint.aws.endpoints import VARIANT
from endpoint.core.naming import TAG
from endpoint.core.problems import code_of, message_of

_NAMESPACE = "sagemaker"
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_BACKLOG, _WAKE = "backlog", "wake"
_WAITING_PICTURES = 2.0  # per instance; a longer backlog justifies the price of another instance
_SCALE_IN_SECONDS = 600
# About as long as an instance takes to start: no second one is added before the first can help.
_SCALE_OUT_SECONDS = 300


class Scaling:
    """The scaling of endpoints, by their names.

    Args:
        client: the client of application-autoscaling.
        alarms: the client of cloudwatch.
    """

    def __init__(self, client: Any, alarms: Any) -> None:
        self._client = client
        self._alarms = alarms

    def ensure(self, endpoint: str, most: int, deployment: str) -> None:
        """Scale the endpoint between 0 and `most` instances; every call can be repeated."""
        target = _target(_resource(endpoint))
        self._client.register_scalable_target(
            **target, MinCapacity=0, MaxCapacity=most, Tags={TAG: deployment}
        )
        self._client.put_scaling_policy(
            **target,
            PolicyName=_BACKLOG,
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=_backlog_policy(endpoint),
        )
        wake_policy = self._client.put_scaling_policy(
            **target,
            PolicyName=_WAKE,
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration=_WAKE_POLICY,
        )
        self._alarms.put_metric_alarm(
            **_wake_alarm(endpoint),
            AlarmActions=[wake_policy["PolicyARN"]],
            Tags=[{"Key": TAG, "Value": deployment}],
        )

    def set_most(self, endpoint: str, most: int) -> None:
        """Change the most instances of an endpoint that scales; its policies stay."""
        target = _target(_resource(endpoint))
        self._client.register_scalable_target(**target, MinCapacity=0, MaxCapacity=most)

    def remove(self, endpoint: str) -> None:
        """Remove alarm, policies and target, in this order; missing ones are ignored."""
        # The alarm first: it could start an instance while the policies are removed.
        # CloudWatch accepts names that do not exist.
        self._alarms.delete_alarms(AlarmNames=[alarm_name(endpoint)])
        self._remove(_resource(endpoint))

    def _remove(self, resource: str) -> None:
        target = _target(resource)
        for policy in (_BACKLOG, _WAKE):
            _unless_missing(self._client.delete_scaling_policy, **target, PolicyName=policy)
        _unless_missing(self._client.deregister_scalable_target, **target)

    def limits(self, prefix: str) -> dict[str, int]:
        """Return the most instances of each endpoint with this prefix whose scaling is complete.

        An interrupted run can leave a target without a policy, or a policy without its alarm; such
        an endpoint does not scale, and is left out.
        """
        targets = {
            item["ResourceId"]: int(item["MaxCapacity"])
            for item in self._list("describe_scalable_targets", "ScalableTargets")
        }
        policies = {
            (item["ResourceId"], item["PolicyName"]): item["PolicyARN"]
            for item in self._list("describe_scaling_policies", "ScalingPolicies")
        }
        wakes = {
            alarm["AlarmName"]: alarm["AlarmActions"]
            for page in self._alarm_pages(prefix)
            for alarm in page["MetricAlarms"]
        }
        limits = {}
        for resource, most in targets.items():
            name = _endpoint(resource)
            wake = policies.get((resource, _WAKE))
            wakened = wake is not None and wake in wakes.get(alarm_name(name), [])
            if name.startswith(prefix) and wakened and (resource, _BACKLOG) in policies:
                limits[name] = most
        return limits

    def scaled(self, prefix: str) -> list[str]:
        """Return the endpoints with this prefix that still have a target or a policy."""
        # Policies as well, because an interrupted removal can leave them without a target.
        names = {
            _endpoint(item["ResourceId"])
            for operation, key in (
                ("describe_scalable_targets", "ScalableTargets"),
                ("describe_scaling_policies", "ScalingPolicies"),
            )
            for item in self._list(operation, key)
        }
        return sorted(name for name in names if name.startswith(prefix))

    def _list(self, operation: str, key: str) -> Iterator[dict[str, Any]]:
        """Yield the targets or policies of endpoints."""
        for page in self._client.get_paginator(operation).paginate(ServiceNamespace=_NAMESPACE):
            yield from (item for item in page[key] if item["ResourceId"].startswith("endpoint/"))

    def _alarm_pages(self, prefix: str) -> Any:
        return self._alarms.get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)

    def alarms(self, prefix: str) -> list[str]:
        """Return the names of the alarms with this prefix."""
        pages = self._alarm_pages(prefix)
        return [alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"]]

    def alarm_tags(self, arn: str) -> dict[str, str]:
        """Return an alarm's tags; empty if it does not exist."""
        try:
            tags = self._alarms.list_tags_for_resource(ResourceARN=arn)["Tags"]
        except ClientError as error:
            if code_of(error) not in {"ResourceNotFoundException", "ResourceNotFound"}:
                raise
            return {}
        return {tag["Key"]: tag["Value"] for tag in tags}

    def delete_alarms(self, names: list[str]) -> None:
        """Delete alarms by name; CloudWatch takes 100 in one call."""
        for start in range(0, len(names), 100):
            self._alarms.delete_alarms(AlarmNames=names[start : start + 100])


def alarm_name(endpoint: str) -> str:
    """Return the name of the alarm that wakes an endpoint."""
    return f"{endpoint}-has-backlog-without-capacity"


def _resource(endpoint: str) -> str:
    return f"endpoint/{endpoint}/variant/{VARIANT}"


def _endpoint(resource: str) -> str:
    return resource.split("/")[1]


def _target(resource: str) -> dict[str, str]:
    return {
        "ServiceNamespace": _NAMESPACE,
        "ResourceId": resource,
        "ScalableDimension": _DIMENSION,
    }


def _backlog_policy(endpoint: str) -> dict[str, Any]:
    return {
        "TargetValue": _WAITING_PICTURES,
        "CustomizedMetricSpecification": {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
        },
        "ScaleInCooldown": _SCALE_IN_SECONDS,
        "ScaleOutCooldown": _SCALE_OUT_SECONDS,
    }


_WAKE_POLICY = {
    # Not one more: the alarm stays on while the first instance starts, and the step is repeated
    # after its cooldown.
    "AdjustmentType": "ExactCapacity",
    "MetricAggregationType": "Average",
    "Cooldown": _SCALE_OUT_SECONDS,
    "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
}


def _wake_alarm(endpoint: str) -> dict[str, Any]:
    return {
        "AlarmName": alarm_name(endpoint),
        "AlarmDescription": "Starts an instance when a request is queued and no instance runs.",
        "Namespace": "AWS/SageMaker",
        "MetricName": "HasBacklogWithoutCapacity",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
        # Two periods of a minute, as in AWS's example at the module's URL.
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 1,
        # With GreaterThanThreshold a single queued request would never start an instance.
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
    }


def _unless_missing(call: Any, **arguments: str) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        # The error code differs by operation; the message does not.
        if code_of(error) != "ObjectNotFoundException" and "No scal" not in message_of(error):
            raise
