"""EventBridge's targets that moto 5.2.5 accepts and never calls: pipelines, functions and builds.

An event is delivered in a thread of its own. What AWS would count as a failed invocation (a role
or a function that does not allow it, a parameter without a value) is logged and kept.
"""

from __future__ import annotations

import copy
import json
import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from botocore.exceptions import ClientError
from moto.core.exceptions import JsonRESTError
from moto.events.models import Rule

from endpoint.emulator.moto_ import codebuild
from endpoint.emulator.moto_.patching import InUse, replace
from endpoint.emulator.moto_.roles import trusts
from endpoint.emulator.process.clients import Clients

logger = logging.getLogger(__name__)

_service = InUse["Targets | None"](None)


class NotDelivered(Exception):
    """The target cannot be called; the message says why."""


class Targets:
    """Delivers events to pipelines and functions.

    Args:
        clients: boto3 clients with the access key of EventBridge's roles.

    Attributes:
        copies: how often each event is delivered: EventBridge promises at least once.
        failed: why events were not delivered.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self.copies = 1
        self.failed: list[str] = []
        self._threads: list[threading.Thread] = []

    def deliver(self, rule: Rule, target: dict[str, Any], event: dict[str, Any]) -> None:
        """Deliver an event to a target, later."""
        for _ in range(self.copies):
            thread = threading.Thread(
                target=self._deliver, args=(rule, target, event), daemon=True, name="event"
            )
            self._threads = [item for item in self._threads if item.is_alive()] + [thread]
            thread.start()

    def _deliver(self, rule: Rule, target: dict[str, Any], event: dict[str, Any]) -> None:
        try:
            if ":lambda:" in target["Arn"]:
                self._invoke(rule, target, event)
            else:
                self._start(rule, target, event)
        except (ClientError, NotDelivered) as error:
            reason = f"{rule.name}: {target['Arn']}: {error}"
            self.failed.append(reason)
            logger.warning("An event was not delivered: %s", reason)

    def _start(self, rule: Rule, target: dict[str, Any], event: dict[str, Any]) -> None:
        role = target.get("RoleArn", "")
        if not trusts(rule.account_id, role, "events.amazonaws.com"):
            raise NotDelivered(f"events.amazonaws.com cannot assume the role {role!r}")
        listed = target.get("SageMakerPipelineParameters", {}).get("PipelineParameterList", [])
        self._clients.get("sagemaker", rule.region_name).start_pipeline_execution(
            PipelineName=target["Arn"].rpartition("/")[2],
            PipelineParameters=[
                {"Name": item["Name"], "Value": _value(item["Value"], event)} for item in listed
            ],
        )

    def _invoke(self, rule: Rule, target: dict[str, Any], event: dict[str, Any]) -> None:
        name = target["Arn"].partition(":function:")[2].partition(":")[0]
        if not _allowed(rule, name):
            raise NotDelivered("the function's policy does not allow the rule to invoke it")
        self._clients.get("lambda", rule.region_name).invoke(
            FunctionName=name,
            InvocationType="Event",
            Payload=json.dumps(_payload(target, event)).encode(),
        )

    def close(self) -> None:
        """Wait for deliveries that have begun."""
        for thread in self._threads:
            thread.join()


def targets(use: Targets) -> AbstractContextManager[None]:
    """Let events that are sent while the context lasts be delivered by it."""
    return _service.use(use)


def install() -> None:
    """Patch moto's class."""
    replace(Rule, "send_to_targets", _to_all)


def _to_all(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(self: Rule, original_event: Any, transform_input: bool = True) -> None:
        own = [target for target in self.targets if _is_own(target["Arn"])]
        if own and self.state == "ENABLED" and self.event_pattern.matches_event(original_event):
            event, service = _as_sent(original_event), _service.value
            for target in own:
                if ":codebuild:" in target["Arn"]:
                    with suppress(NotDelivered):
                        codebuild.build_by_rule(self, target["Arn"], _payload(target, event))
                elif service is not None:
                    service.deliver(self, target, event)
        # Another rule object: several threads send events at the same time.
        others = copy.copy(self)
        others.targets = [target for target in self.targets if target not in own]
        original(others, original_event, transform_input)

    return send


def _is_own(arn: str) -> bool:
    service = arn.split(":")[2]
    return service in {"codebuild", "lambda"} or (service == "sagemaker" and ":pipeline/" in arn)


def _as_sent(event: Any) -> dict[str, Any]:
    """Return an event with an id of its own and its time as text, which moto's have not."""
    moment = event["time"]
    if not isinstance(moment, str):
        moment = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    own = event.get("id") if event["source"] == "aws.sagemaker" else str(uuid.uuid4())
    return {**event, "time": moment, "id": own}


def _value(value: str, event: dict[str, Any]) -> str:
    """Return a parameter's value: a path into the event only if it is the whole value.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-targets.html
    """
    if not value.startswith("$"):
        return value
    found = _at(value, event)
    return found if isinstance(found, str) else json.dumps(found)


def _at(path: str, event: Any) -> Any:
    for part in path.removeprefix("$").removeprefix(".").split("."):
        if part:
            try:
                event = event[part]
            except (KeyError, TypeError):
                raise NotDelivered(f"the event has no {path}") from None
    return event


def _payload(target: dict[str, Any], event: dict[str, Any]) -> Any:
    if "Input" in target:
        return json.loads(target["Input"])
    if "InputPath" in target:
        return _at(target["InputPath"], event)
    transformer = target.get("InputTransformer")
    if transformer is None:
        return event
    text: str = transformer["InputTemplate"]
    for name, path in transformer.get("InputPathsMap", {}).items():
        value = _at(path, event)
        # A text gets quotation marks, unless the template has them.
        inner = json.dumps(value)[1:-1] if isinstance(value, str) else json.dumps(value)
        text = text.replace(f'"<{name}>"', f'"{inner}"').replace(f"<{name}>", json.dumps(value))
    return json.loads(text)


def _allowed(rule: Rule, name: str) -> bool:
    """Whether a function's own policy lets a rule invoke it; one that a test replaced has none."""
    # Imported late: it takes a second, and few processes deploy.
    from moto.awslambda.models import lambda_backends

    try:
        function = lambda_backends[rule.account_id][rule.region_name].get_function(name)
    except JsonRESTError:
        return True
    return any(_allows(statement, rule.arn) for statement in function.policy.statements)


def _allows(statement: dict[str, Any], arn: str) -> bool:
    principal = statement.get("Principal", {})
    service = principal.get("Service") if isinstance(principal, dict) else principal
    sources = [
        value
        for values in statement.get("Condition", {}).values()
        for key, value in values.items()
        if key.lower() == "aws:sourcearn"
    ]
    return (
        statement.get("Effect") == "Allow"
        and service == "events.amazonaws.com"
        and statement.get("Action") in {"lambda:InvokeFunction", "lambda:*"}
        and all(fnmatchcase(arn, source) for source in sources)
    )
