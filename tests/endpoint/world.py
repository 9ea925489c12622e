"""An AWS account for the scripts' tests: moto in this process, and what moto lacks over it.

The layer sits in botocore's events, between the scripts and moto:

- endpoints take time: Creating, InService, Deleting; SageMaker refuses to delete one that is being
  made, to make one whose name is still being deleted, and to update one that is being scaled;
- SageMaker Runtime answers a picture only for an endpoint in service; asynchronous ones put it into
  the bucket (moto answers the word `body`, whatever exists);
- a container's log and ECR's repositories of AWS's own account are lists here;
- any call can fail, and the process can die before or after any call.

Time is virtual: sleeping moves it.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
from botocore import xform_name
from botocore.awsrequest import AWSResponse
from botocore.response import StreamingBody
from moto import mock_aws
from moto.cloudformation import models

from endpoint.core.clock import Clock
from endpoint.emulator.moto_ import moto_shims

REGION = "us-east-1"
ACCOUNT = "123456789012"
IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-inference:some-tag"
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture" * 10
_START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
_CREATE_SECONDS, _DELETE_SECONDS = 240, 60


class Crash(BaseException):
    """The process is gone: nothing catches this, and nothing is called after it."""


@dataclass
class Fault:
    """A call that fails.

    Attributes:
        code: AWS's error code.
        message: AWS's message.
        times: how often; None for ever.
        after: let so many calls of the operation pass first.
    """

    code: str
    message: str = "because the test says so"
    times: int | None = None
    after: int = 0
    status: int = 400
    extra: dict[str, Any] = field(default_factory=dict)


class World(Clock):
    """The account, its clock, and a session into it."""

    def __init__(self) -> None:
        moto_shims.install()
        moto_shims.pass_over_in_stacks()
        self.seconds = 0.0
        self.calls: list[str] = []
        self.faults: dict[str, Fault] = {}
        self.fails_with: str | None = None  # the FailureReason of every endpoint made from now on
        self.update_rolls_back = False
        self.stack_status: str | None = None  # what the stack says until it is deleted
        self.stack_fails_with: tuple[str, str] | None = None  # the resource, and why
        self.log_lines: list[str] = []
        self.images = {"some-tag"}
        self.denied: set[str] = set()  # actions, as IAM's simulator sees them
        self._crash: tuple[int, str] | None = None
        self._dead = False
        self._ready: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._going: dict[str, tuple[float, dict[str, Any]]] = {}
        self.session = _watched()
        self.session.world = self

    # Time

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    # What tests switch

    def fail(self, operation: str, code: str, message: str = "", **more: Any) -> None:
        """Let an operation fail from now on."""
        self.faults[operation] = Fault(code, message or f"{operation} fails", **more)

    def crash_at(self, call: int, when: str) -> None:
        """Let the process die `before` or `after` the call with this number, counted from 0."""
        self._crash = (len(self.calls) + call, when)

    def revive(self) -> None:
        """Start a new process after a crash."""
        self._crash, self._dead = None, False

    def run(self, main: Any, *argv: str) -> int:
        """Run a script in this account; return its exit code."""
        return int(main([*argv], session=self.session, clock=self))

    def open_session(self) -> None:
        """Take a session of its own, for a test that hooks into it."""
        self.session = _Session()
        self.session.world = self

    def client(self, service: str) -> Any:
        """Return a client that nothing here watches."""
        return _unwatched(service)

    # Below botocore's clients

    def before(self, model: Any, context: dict[str, Any], **_: Any) -> Any:
        if self._dead:
            raise Crash
        number = len(self.calls)
        self.calls.append(f"{model.service_model.service_name}.{model.name}")
        context["world_number"] = number
        if self._crash == (number, "before"):
            self._die()
        error = self._fault(model.name)
        if error:
            return _error(error)
        act = getattr(self, f"_before_{xform_name(model.name)}", None)
        return act(context["world_params"]) if act else None

    def after(self, model: Any, context: dict[str, Any], parsed: Any, **_: Any) -> None:
        if "Error" not in parsed:
            act = getattr(self, f"_after_{xform_name(model.name)}", None)
            if act:
                act(context["world_params"], parsed)
        if self._crash == (context["world_number"], "after"):
            self._die()

    def _die(self) -> None:
        self._dead = True
        raise Crash

    def _fault(self, operation: str) -> Fault | None:
        fault = self.faults.get(operation)
        if fault is None:
            return None
        if fault.after > 0:
            fault.after -= 1
            return None
        if fault.times is not None:
            if fault.times == 0:
                return None
            fault.times -= 1
        return fault

    # SageMaker's endpoints

    def _after_create_endpoint(self, params: dict[str, Any], _: Any) -> None:
        name = params["EndpointName"]
        self._ready[name] = self.seconds + _CREATE_SECONDS
        self._failed.pop(name, None)
        if self.fails_with:
            self._failed[name] = self.fails_with

    def _before_create_endpoint(self, params: dict[str, Any]) -> Any:
        if self._is_going(params["EndpointName"]):
            return _error(Fault("ValidationException", "Cannot create already existing endpoint"))
        return None

    def _after_update_endpoint(self, params: dict[str, Any], _: Any) -> None:
        self._ready[params["EndpointName"]] = self.seconds + _CREATE_SECONDS

    def _before_update_endpoint(self, params: dict[str, Any]) -> Any:
        found = self.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="sagemaker"
        )
        resource = f"endpoint/{params['EndpointName']}/"
        if any(item["ResourceId"].startswith(resource) for item in found["ScalableTargets"]):
            message = "The variant must be deregistered from automatic scaling first"
            return _error(Fault("ValidationException", message))
        return _answer({"EndpointArn": "arn"}) if self.update_rolls_back else None

    def _before_delete_endpoint(self, params: dict[str, Any]) -> Any:
        name = params["EndpointName"]
        if self._ready.get(name, 0) > self.seconds or self._is_going(name):
            return _error(Fault("ValidationException", "Cannot update in-progress endpoint"))
        return None

    def _after_delete_endpoint(self, params: dict[str, Any], _: Any) -> None:
        name = params["EndpointName"]
        self._ready.pop(name, None)
        self._failed.pop(name, None)
        self._going[name] = (self.seconds + _DELETE_SECONDS, {})

    def _is_going(self, name: str) -> bool:
        return name in self._going and self._going[name][0] > self.seconds

    def _before_describe_endpoint(self, params: dict[str, Any]) -> Any:
        name = params["EndpointName"]
        if not self._is_going(name):
            return None
        return _answer(
            {
                "EndpointName": name,
                "EndpointConfigName": "gone",
                "EndpointStatus": "Deleting",
                "CreationTime": _START,
            }
        )

    def _after_describe_endpoint(self, params: dict[str, Any], parsed: dict[str, Any]) -> None:
        name = params["EndpointName"]
        parsed["CreationTime"] = _START
        if self._ready.get(name, 0) > self.seconds:
            parsed["EndpointStatus"] = "Creating"
        elif name in self._failed:
            parsed["EndpointStatus"] = "Failed"
            parsed["FailureReason"] = self._failed[name]

    # SageMaker Runtime

    def _before_invoke_endpoint(self, params: dict[str, Any]) -> Any:
        return self._unless_in_service(params) or _answer(
            {"Body": StreamingBody(io.BytesIO(PNG), len(PNG)), "ContentType": "image/png"}
        )

    def _before_invoke_endpoint_async(self, params: dict[str, Any]) -> Any:
        error = self._unless_in_service(params)
        if error:
            return error
        client = self.client("sagemaker")
        found = client.describe_endpoint(EndpointName=params["EndpointName"])
        config = client.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
        place = config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] + params["Filename"]
        bucket, _, key = place.removeprefix("s3://").partition("/")
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=PNG)
        return _answer({"OutputLocation": place, "InferenceId": "1"})

    def _unless_in_service(self, params: dict[str, Any]) -> Any:
        name = params["EndpointName"]
        names = [item["EndpointName"] for item in
                 self.client("sagemaker").list_endpoints()["Endpoints"]]  # fmt: skip
        if name in names and self._ready.get(name, 0) <= self.seconds and name not in self._failed:
            return None
        message = f"Endpoint {name} of account {ACCOUNT} not found."
        return _error(Fault("ValidationError", message))

    # CloudFormation

    def _after_describe_stacks(self, _: dict[str, Any], parsed: dict[str, Any]) -> None:
        if self.stack_status:
            parsed["Stacks"][0]["StackStatus"] = self.stack_status

    def _after_create_stack(self, _: dict[str, Any], __: Any) -> None:
        if self.stack_fails_with:
            self.stack_status = "ROLLBACK_COMPLETE"

    def _before_describe_stack_events(self, params: dict[str, Any]) -> Any:
        resource, reason = self.stack_fails_with or ("", "")
        whole = {"LogicalResourceId": params["StackName"]}
        events = [
            whole | {"ResourceStatus": "ROLLBACK_COMPLETE"},
            {
                "LogicalResourceId": "Other",
                "ResourceStatus": "CREATE_FAILED",
                "ResourceStatusReason": "Resource creation cancelled",
            },
            {
                "LogicalResourceId": resource,
                "ResourceStatus": "CREATE_FAILED",
                "ResourceStatusReason": reason,
            },
            whole | {"ResourceStatus": "CREATE_IN_PROGRESS"},
            {
                "LogicalResourceId": "Before",
                "ResourceStatus": "CREATE_FAILED",
                "ResourceStatusReason": "an earlier attempt",
            },
        ]
        return _answer({"StackEvents": events})

    def _after_delete_stack(self, _: dict[str, Any], __: Any) -> None:
        self.stack_status = None

    # What moto does not know

    def _before_filter_log_events(self, _: dict[str, Any]) -> Any:
        return _answer({"events": [{"message": line} for line in self.log_lines]})

    def _before_simulate_principal_policy(self, params: dict[str, Any]) -> Any:
        return _answer(
            {
                "EvaluationResults": [
                    {
                        "EvalActionName": action,
                        "EvalDecision": "implicitDeny" if action in self.denied else "allowed",
                    }
                    for action in params["ActionNames"]
                ]
            }
        )

    def _before_batch_get_image(self, params: dict[str, Any]) -> Any:
        tag = params["imageIds"][0].get("imageTag")
        return _answer({"images": [{"imageId": {"imageTag": tag}}] if tag in self.images else []})


_KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


class _Session:
    """A boto3 session whose clients are made once for all tests, and watched by one world."""

    def __init__(self) -> None:
        self.world: World | None = None
        self._inner = boto3.Session(region_name=REGION, **_KEYS)
        self._clients: dict[str, Any] = {}
        self.region_name = REGION
        self.events = self._inner.events
        self.events.register("before-parameter-build", _keep)
        self.events.register("before-call", self._before)
        self.events.register("after-call", self._after)

    def _before(self, **arguments: Any) -> Any:
        return self.world.before(**arguments) if self.world else None

    def _after(self, **arguments: Any) -> None:
        if self.world:
            self.world.after(**arguments)

    def client(self, service: str, config: Any = None) -> Any:
        if service not in self._clients:
            self._clients[service] = self._inner.client(service, config=config)
        return self._clients[service]

    def get_partition_for_region(self, region: str) -> str:
        return str(self._inner.get_partition_for_region(region))


@cache
def _watched() -> _Session:
    return _Session()


@cache
def _unwatched(service: str) -> Any:
    return boto3.Session(region_name=REGION, **_KEYS).client(service)


def _keep(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context["world_params"] = dict(params)


def _answer(parsed: dict[str, Any]) -> tuple[AWSResponse, dict[str, Any]]:
    metadata = {"HTTPStatusCode": 200, "HTTPHeaders": {}}
    return AWSResponse("", 200, {}, None), {**parsed, "ResponseMetadata": metadata}


def _error(fault: Fault) -> tuple[AWSResponse, dict[str, Any]]:
    parsed = {
        "Error": {"Code": fault.code, "Message": fault.message},
        "ResponseMetadata": {"HTTPStatusCode": fault.status, "HTTPHeaders": {}},
        **fault.extra,
    }
    return AWSResponse("", fault.status, {}, None), parsed


@cache
def _parse_templates_once() -> None:
    """Half of these tests' time was moto parsing one template, over and over, in pure Python."""
    load, known = models.yaml.load, {}

    def remembered(text: str, **options: Any) -> Any:
        if text not in known:
            known[text] = pickle.dumps(load(text, **options))
        return pickle.loads(known[text])  # noqa: S301 - made in the line above

    models.yaml = SimpleNamespace(**{**vars(models.yaml), "load": remembered})


@contextmanager
def empty_account() -> Iterator[World]:
    """Give an account with nothing in it."""
    _parse_templates_once()
    with mock_aws():
        yield World()


def contents(world: World) -> list[str]:
    """Return all that is in the account, by asking moto itself and not the scripts."""
    names: list[str] = []
    for service, operation, key, name in _LISTS:
        page = getattr(world.client(service), operation)(**_MORE.get(operation, {}))
        names += [f"{key}:{json.dumps(_deep(item, name))}" for item in page[key]]
    return [name for name in names if "DELETE_COMPLETE" not in name]


def _deep(item: Any, name: str) -> Any:
    if not name:
        return item
    return {"name": item[name], "status": item.get("StackStatus", "")}


_MORE = {
    "describe_scalable_targets": {"ServiceNamespace": "sagemaker"},
    "describe_scaling_policies": {"ServiceNamespace": "sagemaker"},
}
_LISTS = [
    ("sagemaker", "list_endpoints", "Endpoints", "EndpointName"),
    ("sagemaker", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
    ("sagemaker", "list_models", "Models", "ModelName"),
    ("cloudformation", "describe_stacks", "Stacks", "StackName"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("application-autoscaling", "describe_scalable_targets", "ScalableTargets", "ResourceId"),
    ("application-autoscaling", "describe_scaling_policies", "ScalingPolicies", "PolicyName"),
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("apigateway", "get_rest_apis", "items", "id"),
]
