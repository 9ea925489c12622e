"""What Lambda, API Gateway and CloudFormation do to a gateway that nobody needs any more.

The function gets other code (`probe.py`), and loses its concurrency; the stack is rolled back. The
clean-up deletes all of it.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from endpoint.core.problems import StackFailed, TookTooLong
from endpoint.proof.probe import WENT_ON
from endpoint.proof.subject import Observation, Subject
from endpoint.provision import infrastructure

_PROBE = Path(__file__).with_name("probe.py")
# A route of the gateway without a field that could be refused.
_PATH = "health"
# Longer than API Gateway waits, and shorter than the function then may take.
SECONDS, _TIMEOUT = 33, 60
_CHANGE_SECONDS, _LOG_SECONDS = 300, 300


def read_only_task(subject: Subject) -> Observation:
    """Whether the function can write into its own folder, where Python would keep bytecode."""
    _become_probe(subject)

    def poll() -> str | None:
        # An environment that ran the gateway's own code can still answer.
        text = subject.visitor.get(_PATH).body
        return None if b'"bytecode"' in text else "the function's old code still answers"

    subject.context.waiting.until_done(poll, at_most=_CHANGE_SECONDS, every=5)
    seen = subject.visitor.get(_PATH).json()
    words = f"a file: {seen['refused'] or 'written'}; bytecode: {seen['bytecode']}"
    return Observation(bool(seen["refused"]) and not seen["bytecode"], words)


def gateway_timeout(subject: Subject) -> Observation:
    """Whether a function that takes too long is a 504, and goes on."""
    _become_probe(subject)
    start = subject.context.clock.monotonic()
    answer = subject.visitor.get(f"{_PATH}?seconds={SECONDS}")
    seconds = subject.context.clock.monotonic() - start
    went_on = answer.status == 504 and _logged(subject, WENT_ON)
    after = "its log says that it went on" if went_on else "its log has no later line"
    measured = {"seconds until the answer": round(seconds, 1)}
    return Observation(went_on, f"{answer.status}; {after}", measured)


def throttled_function(subject: Subject) -> Observation:
    """Whether a function without free concurrency is a 500."""
    subject.client("lambda").put_function_concurrency(
        FunctionName=subject.context.deployment.function, ReservedConcurrentExecutions=0
    )
    statuses = []

    def poll() -> str | None:
        statuses.append(subject.visitor.get(_PATH).status)
        return "the function still answers" if statuses[-1] == 200 else None

    subject.context.waiting.until_done(poll, at_most=_CHANGE_SECONDS, every=5)
    return Observation(statuses[-1] == 500, f"{statuses[-1]}")


def stack_rollback(subject: Subject) -> Observation:
    """Whether a stack whose update was rolled back can be updated."""
    context, stack = subject.context, subject.context.deployment.stack
    text = infrastructure.template(context.account.region)
    parameters = context.stacks.parameters(stack)
    # A role with a name of its own cannot be replaced, and its path cannot be changed.
    role = "    Type: AWS::IAM::Role\n    Properties:\n"
    refused = text.replace(role, f"{role}      Path: /proof/\n", 1)
    try:
        context.stacks.ensure(stack, refused, parameters, context.deployment.tags)
    except StackFailed as error:
        reason = str(error)
    else:
        return Observation(False, "the update that should have failed succeeded")
    before = _status(subject)
    # Other retention of the log is a change without consequences.
    parameters["LogDays"] = "1" if parameters.get("LogDays") != "1" else "3"
    context.stacks.ensure(stack, text, parameters, context.deployment.tags)
    held = (before, _status(subject)) == ("UPDATE_ROLLBACK_COMPLETE", "UPDATE_COMPLETE")
    return Observation(held, f"{before} ({reason}); then {_status(subject)}")


def _status(subject: Subject) -> str:
    stack = subject.context.stacks.find(subject.context.deployment.stack) or {}
    return str(stack.get("StackStatus", "gone"))


def _become_probe(subject: Subject) -> None:
    """Give the function the probe's code and a long timeout, and wait until it has both."""
    client, name = subject.client("lambda"), subject.context.deployment.function
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        # The same date each time, so that the same code is no change.
        package.writestr(zipfile.ZipInfo("app.py"), _PROBE.read_bytes())
    _wait(subject)
    client.update_function_code(FunctionName=name, ZipFile=archive.getvalue())
    _wait(subject)
    client.update_function_configuration(FunctionName=name, Timeout=_TIMEOUT)
    _wait(subject)


def _wait(subject: Subject) -> None:
    """Wait until Lambda has done what it was told last."""

    def poll() -> str | None:
        function = subject.context.gateway.function(subject.context.deployment.function) or {}
        status = function.get("LastUpdateStatus", "Successful")
        return f"the function's update: {status}" if status == "InProgress" else None

    subject.context.waiting.until_done(poll, at_most=_CHANGE_SECONDS, every=2)


def _logged(subject: Subject, words: str) -> bool:
    """Whether the function's log has these words, or gets them within some minutes."""
    group = f"/aws/lambda/{subject.context.deployment.function}"
    client = subject.client("logs")

    def poll() -> str | None:
        arguments = {"logGroupName": group, "filterPattern": f'"{words}"'}
        return None if client.filter_log_events(**arguments)["events"] else "the function's log"

    try:
        subject.context.waiting.until_done(poll, at_most=_LOG_SECONDS, every=5)
    except TookTooLong:
        return False
    return True
