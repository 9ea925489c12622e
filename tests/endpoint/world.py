"""An AWS account for the scripts' tests: the emulator in this process, with crashes and a clock.

SageMaker and its runtime are the emulator's: endpoints take time, refuse what SageMaker refuses,
and answer only in service. This layer sits in botocore's events, between the scripts and moto:

- time is virtual: sleeping moves it
- any call can fail, and the process can die before or after any call
- a container's log, ECR's repositories of AWS's own account, IAM's simulator and a failing stack
  are lists here, because moto has none of them
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3
from botocore import xform_name
from botocore.awsrequest import AWSResponse
from botocore.endpoint import convert_to_response_dict
from botocore.parsers import create_parser
from moto import mock_aws
from moto.core.botocore_stubber import MockRawResponse
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from endpoint.aws.registry import SERVABLE
from endpoint.core.clock import Clock
from endpoint.emulator.lambda_.inline import InlineFunction
from endpoint.emulator.moto_ import api_gateway, codebuild, schedules, shims
from endpoint.emulator.moto_.sagemaker import transitions
from endpoint.emulator.moto_.stacks import cloudformation
from endpoint.emulator.process.clock import Clock as EmulatedClock
from endpoint.emulator.sagemaker.containers import ContainerResponse
from endpoint.emulator.sagemaker.faults import Fault, Faults
from endpoint.emulator.sagemaker.lifecycle import Transitions
from endpoint.emulator.sagemaker.runtime import Runtime
from tests.endpoint import fast_moto
from tests.policies import iam

REGION = "us-east-1"
ACCOUNT = "123456789012"
IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-inference:some-tag"
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture" * 10 + b"\x00\x00\x00\x00IEND\xaeB`\x82"
# The container's response to a request for it, as far as the scripts read it.
DESCRIPTION: dict[str, Any] = {
    "defaults": {"steps": 20, "guidance_scale": None, "width": 512, "height": 512},
    "limits": {},
    "loras": [],
}
_START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
# Minutes less than on AWS: the scripts poll several times, and each poll takes the tests' time.
CREATE_SECONDS, DELETE_SECONDS, _BUILD_SECONDS = 75, 45, 540
# The first words of operations that change nothing.
_READS = ("BatchGet", "Describe", "Filter", "Get", "Head", "List", "Simulate")


class Crash(BaseException):
    """The process is gone: nothing catches this, and nothing is called after it."""


class _Container:
    """A container that always answers with the same picture, and with the same description."""

    def __init__(self) -> None:
        self.description: object = DESCRIPTION
        self.refuses: dict[str, ContainerResponse] = {}

    def ask(self, _: object, __: object, body: bytes, ___: object) -> ContainerResponse:
        request = json.loads(body)
        if request.get("prompt") in self.refuses:
            return self.refuses[request["prompt"]]
        if request != {"describe": True} or self.description == PNG:
            return ContainerResponse(200, {"content-type": "image/png"}, PNG)
        content = {"content-type": "application/json"}
        if self.description is None:
            return ContainerResponse(400, content, b'{"error": "prompt is missing"}')
        return ContainerResponse(200, content, json.dumps(self.description).encode())


def role_policy(client: Any, role: str, name: str) -> dict[str, Any]:
    """Return a role's policy as CloudFormation makes it."""
    written = client.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    document: dict[str, Any] = ast.literal_eval(written)  # as moto writes it
    # moto keeps an empty one for AWS::NoValue.
    statements = list(filter(None, document["Statement"]))
    for statement in statements:
        if isinstance(statement["Resource"], list):
            statement["Resource"] = list(filter(None, statement["Resource"]))
    return {**document, "Statement": statements}


class _Moto:
    """boto3 clients that nothing watches, for what the emulator itself does."""

    def get(self, service: str, _: str) -> Any:
        return _unwatched(service)


class World(Clock):
    """The account, its clock, and a session into it."""

    def __init__(self) -> None:
        shims.install()
        cloudformation.install()
        self.seconds = 0.0
        # Whether EventBridge Scheduler carries out what is due while time passes.
        self.schedules_run = False
        self.schedules = schedules.Schedules(
            self.now,
            lambda service, _: _unwatched(service),
            self._invoke_function,
            self._role_allows,
        )
        self.endpoints = Transitions(
            self.monotonic, CREATE_SECONDS, CREATE_SECONDS, DELETE_SECONDS, moment=self.now
        )
        self.builds = codebuild.Builds(self.monotonic, _START, _BUILD_SECONDS)
        self._container = _Container()
        self._runtime = Runtime(self._container, _Moto(), EmulatedClock(), run=lambda work: work())
        self.calls: list[str] = []  # the operations called so far, such as `s3.PutObject`
        self.faults = Faults()  # by operation
        self.stack_status: str | None = None  # what the stack says until it is deleted
        self.stack_fails_with: tuple[str, str] | None = None  # the resource, and why
        self.change_set_fails_with: str | None = None  # the reason of every change set
        self.log_lines: list[str] = []
        self.never_answers = False  # asynchronous invocations stay in their queue
        self.images = {"some-tag"}
        self.caller: str | None = None  # the ARN of who calls; None for moto's root user
        # What the caller may do, as IAM's simulator sees it; None for everything.
        self.operator_policy: dict[str, Any] | None = None
        self.requests: list[tuple[Any, dict[str, Any]]] = []  # botocore's model, and the arguments
        self.of_schedules: list[iam.Request] = []  # what the schedules' role was needed for
        self.changes: list[int] = []  # the numbers of the calls that find or leave another account
        # Called at each call with its number, and `before` or `after`.
        self.at_call: Callable[[int, str], None] = lambda *_: None
        self._changed_at = 0.0
        self._trouble: tuple[int, str] | None = None
        self._dead = False
        self.session = _watched()
        self.session.world = self

    # Time

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        while self.schedules_run:
            due = self.schedules.next_due(ACCOUNT, REGION)
            at = until if due is None else max((due - _START).total_seconds(), self.seconds)
            if at > until:
                break
            self.seconds = at
            if due is None:
                break
            self.schedules.run_due(ACCOUNT, REGION)
        self.seconds = until

    @staticmethod
    def moment_of(text: str) -> datetime:
        """Return the moment of a schedule's expression."""
        return datetime.strptime(text, "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC)

    def _invoke_function(self, region: str, name: str, event: Any) -> Any:
        return InlineFunction(ACCOUNT, region, name).invoke(
            event, _unwatched, lambda: self.now().timestamp()
        )

    def _role_allows(self, role: str, action: str, resource: str) -> bool:
        """Whether a role's policies in moto allow an action, by the rules of `tests.policies`."""
        client = _unwatched("iam")
        name, request = role.rpartition("/")[2], iam.Request(action, resource)
        self.of_schedules.append(request)
        return any(
            iam.allows(role_policy(client, name, policy), request)
            for policy in client.list_role_policies(RoleName=name)["PolicyNames"]
        )

    # For tests to set

    @property
    def description(self) -> object:
        """What every container says about itself; None for one that does not know the request."""
        return self._container.description

    @description.setter
    def description(self, value: object) -> None:
        self._container.description = value

    def refuse(self, prompt: str, status: int = 400, message: str = "no such thing") -> None:
        """Let every container refuse a prompt from now on."""
        headers = {"content-type": "application/json"}
        body = json.dumps({"error": {"code": "invalid_request", "message": message}}).encode()
        self._container.refuses[prompt] = ContainerResponse(status, headers, body)

    @property
    def fails_with(self) -> str | None:
        """The FailureReason of every endpoint created from now on."""
        return self.endpoints.fails_with

    @fails_with.setter
    def fails_with(self, reason: str | None) -> None:
        self.endpoints.fails_with = reason

    @property
    def update_rolls_back(self) -> bool:
        return self.endpoints.update_rolls_back

    @update_rolls_back.setter
    def update_rolls_back(self, value: bool) -> None:
        self.endpoints.update_rolls_back = value

    def fail(
        self, operation: str, code: str, message: str = "", status: int = 400, **more: Any
    ) -> None:
        """Let an operation fail from now on; `more` is times, after and extra of `Fault`."""
        message = message or f"{operation} fails"
        fault = Fault("refused", code=code, message=message, status=status, **more)
        self.faults.switch(operation, [fault])

    def crash_at(self, call: int, when: str) -> None:
        """End the process `before` or `after` the call with this number, counted from 0."""
        self.trouble_at(call, when)

    def crash_after(self, operation: str) -> None:
        """End the process after the next call of an operation."""
        hook = f"_after_{xform_name(operation)}"

        def crash(*_: Any) -> None:
            delattr(self, hook)
            self.die()

        setattr(self, hook, crash)

    def trouble_at(self, call: int, kind: str) -> None:
        """Crash `before` or `after` this call, or let it be `refused` or `interrupted`."""
        self._trouble = (len(self.calls) + call, kind)

    def fail_at(self, call: int) -> None:
        """Let the call with this number fail, counted from 0."""
        self.trouble_at(call, "refused")

    def forget_calls(self) -> None:
        """Count calls from 0 again, for a test that makes hundreds of thousands of them."""
        for log in (self.calls, self.requests, self.changes):
            log.clear()

    def revive(self) -> None:
        """Start a new process after a crash."""
        self._trouble, self._dead = None, False
        self.at_call = lambda *_: None

    def run(self, main: Any, *argv: str, **more: Any) -> int:
        """Run a script in this account; return its exit code."""
        session = self.session
        if "--dry-run" in argv:  # it hooks into its session, which all accounts and runs share
            session = _Session()
            session.world = self
        return int(main([*argv], session=session, clock=self, **more))

    def client(self, service: str) -> Any:
        """Return a client that this layer does not watch."""
        return _unwatched(service)

    # Below botocore's clients

    def before(self, model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> Any:
        if self._dead:
            raise Crash
        number = len(self.calls)
        operation = f"{model.service_model.service_name}.{model.name}"
        self.requests.append((model, context["world_params"]))
        self.calls.append(operation)
        context["world_number"] = number
        self._note_change(number, model.name)
        self.at_call(number, "before")
        if self._trouble == (number, "before"):
            self.die()
        if self._trouble == (number, "interrupted"):
            raise KeyboardInterrupt
        fault = self.faults.take(model.name, ("refused",))
        if self._trouble == (number, "refused"):
            fault = Fault("refused", code="InternalFailure", message="once", status=500)
        if fault:
            return aws_error(fault)
        act = getattr(self, f"_before_{xform_name(model.name)}", None)
        if act:
            return act(context["world_params"])
        if model.service_model.service_name == "sagemaker-runtime":
            return self._invoke(model, params)
        return None

    def _note_change(self, number: int, operation: str) -> None:
        if self.seconds > self._changed_at or not operation.startswith(_READS):
            self.changes.append(number)
            self._changed_at = self.seconds

    def after(self, model: Any, context: dict[str, Any], parsed: Any, **_: Any) -> None:
        if "Error" not in parsed:
            act = getattr(self, f"_after_{xform_name(model.name)}", None)
            if act:
                act(context["world_params"], parsed)
        self.at_call(context["world_number"], "after")
        if self._trouble == (context["world_number"], "after"):
            self.die()

    def die(self) -> None:
        """End the process where it is."""
        self._dead = True
        raise Crash

    def _invoke(self, model: Any, params: dict[str, Any]) -> Any:
        """Answer a call of SageMaker Runtime as the emulator does."""
        environ = EnvironBuilder(
            params["url_path"],
            method=params["method"],
            headers=params["headers"],
            data=params["body"],
        )
        answer = self._runtime.answer(Request(environ.get_environ()))
        if not self.never_answers:
            self._runtime.queue.poll()
        raw = MockRawResponse(answer.get_data())
        response = AWSResponse(params["url"], answer.status_code, dict(answer.headers), raw)
        parser = create_parser(model.metadata["protocol"])
        parsed = parser.parse(convert_to_response_dict(response, model), model.output_shape)
        return response, parsed

    def _after_describe_endpoint(self, _: dict[str, Any], parsed: dict[str, Any]) -> None:
        # moto reads the real clock.
        parsed["CreationTime"] = _START

    # CloudFormation

    def _after_describe_stacks(self, _: dict[str, Any], parsed: dict[str, Any]) -> None:
        if self.stack_status:
            parsed["Stacks"][0]["StackStatus"] = self.stack_status

    def _after_create_stack(self, _: dict[str, Any], __: Any) -> None:
        if self.stack_fails_with:
            self.stack_status = "ROLLBACK_COMPLETE"

    def _before_update_stack(self, params: dict[str, Any]) -> Any:
        if self.stack_status == "UPDATE_ROLLBACK_FAILED":
            message = f"Stack:{params['StackName']} is in {self.stack_status} state"
            message += " and can not be updated."
            return aws_error(Fault("refused", code="ValidationError", message=message))
        if self.stack_fails_with:
            self.stack_status = "UPDATE_ROLLBACK_COMPLETE"
            return aws_response({"StackId": params["StackName"]})
        return None

    def _after_update_stack(self, _: dict[str, Any], __: Any) -> None:
        if not self.stack_fails_with:
            self.stack_status = None

    def _after_describe_change_set(self, _: dict[str, Any], parsed: dict[str, Any]) -> None:
        if self.change_set_fails_with:
            parsed |= {"Status": "FAILED", "StatusReason": self.change_set_fails_with}

    def _before_continue_update_rollback(self, _: dict[str, Any]) -> Any:
        if not self.stack_fails_with:
            self.stack_status = "UPDATE_ROLLBACK_COMPLETE"
        return aws_response({})

    # Application Auto Scaling

    def _before_register_scalable_target(self, params: dict[str, Any]) -> Any:
        # Whether AWS scales an endpoint that it still works on is not documented; here it does not.
        name = params["ResourceId"].split("/")[1]
        listed = _unwatched("sagemaker").list_endpoints(NameContains=name)["Endpoints"]
        states = [item["EndpointStatus"] for item in listed if item["EndpointName"] == name]
        if states in (["InService"], []):  # a dry run scales what does not exist
            return None
        message = f"The endpoint {name} is not in service: {states}"
        return aws_error(Fault("refused", code="ValidationException", message=message))

    def _before_describe_stack_events(self, params: dict[str, Any]) -> Any:
        if not self.stack_fails_with:
            return None
        resource, reason = self.stack_fails_with
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
        return aws_response({"StackEvents": events})

    def _after_delete_stack(self, _: dict[str, Any], __: Any) -> None:
        self.stack_status = None

    # What moto does not know

    def _before_filter_log_events(self, _: dict[str, Any]) -> Any:
        events = [{"eventId": str(n), "message": line} for n, line in enumerate(self.log_lines)]
        return aws_response({"events": events})

    def _before_get_caller_identity(self, _: dict[str, Any]) -> Any:
        if self.caller is None:
            return None
        return aws_response({"Arn": self.caller, "Account": ACCOUNT, "UserId": "1"})

    def _before_simulate_principal_policy(self, params: dict[str, Any]) -> Any:
        given = {
            entry["ContextKeyName"]: entry["ContextKeyValues"][0]
            for entry in params.get("ContextEntries", [])
        }
        results = [
            {
                "EvalActionName": action,
                "EvalResourceName": arn,
                "EvalDecision": self._decision(iam.Request(action, arn, given)),
            }
            for action in params["ActionNames"]
            for arn in params.get("ResourceArns", ["*"])
        ]
        return aws_response({"EvaluationResults": results})

    def _decision(self, request: iam.Request) -> str:
        if self.operator_policy is None or iam.allows(self.operator_policy, request):
            return "allowed"
        return "explicitDeny" if iam.denies(self.operator_policy, request) else "implicitDeny"

    def _before_tag_resource(self, params: dict[str, Any]) -> Any:
        if not params.get("resourceArn", "").startswith("arn:aws:apigateway:"):
            return None
        api_gateway.tag_api(params["resourceArn"], params["tags"])
        return aws_response({})

    def _before_batch_get_image(self, params: dict[str, Any]) -> Any:
        tag = params["imageIds"][0].get("imageTag")
        if tag not in self.images and params["registryId"] == ACCOUNT:
            return None
        image = {"imageId": {"imageTag": tag}, "imageManifestMediaType": SERVABLE}
        return aws_response({"images": [image] if tag in self.images else []})


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
        key = f"{service} {getattr(config, 'signature_version', None)}"
        if key not in self._clients:
            self._clients[key] = self._inner.client(service, config=config)
        return self._clients[key]

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


def aws_response(parsed: dict[str, Any]) -> tuple[AWSResponse, dict[str, Any]]:
    """Return what a call to AWS returns, in botocore's form."""
    metadata = {"HTTPStatusCode": 200, "HTTPHeaders": {}}
    return AWSResponse("", 200, {}, None), {**parsed, "ResponseMetadata": metadata}


def aws_error(fault: Fault) -> tuple[AWSResponse, dict[str, Any]]:
    """Return the error of a call to AWS, in botocore's form."""
    parsed = {
        "Error": {"Code": fault.code, "Message": fault.message},
        "ResponseMetadata": {"HTTPStatusCode": fault.status, "HTTPHeaders": {}},
        **fault.extra,
    }
    return AWSResponse("", fault.status, {}, None), parsed


@contextmanager
def empty_account() -> Iterator[World]:
    """Yield an account with nothing in it."""
    fast_moto.install()
    with mock_aws(), fast_moto.unhashed_signatures():
        world = World()
        with (
            transitions(world.endpoints),
            codebuild.builds(world.builds),
            schedules.schedules(world.schedules),
        ):
            yield world


def contents(world: World) -> list[str]:
    """Return everything in the account, from moto itself and not from the scripts."""
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
    ("ecr", "describe_repositories", "repositories", "repositoryName"),
    ("codebuild", "list_projects", "projects", ""),
    ("events", "list_rules", "Rules", "Name"),
    ("scheduler", "list_schedules", "Schedules", "Name"),
    ("sns", "list_topics", "Topics", "TopicArn"),
]
