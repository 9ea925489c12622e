"""CloudFormation: one stack per deployment."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import StackFailed, message_of
from endpoint.core.waiting import Waiting

_MOST_SECONDS = 1800
_GOOD = {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
# After a rollback, the stack is what it was before the update that failed.
_GOOD_UNCHANGED = _GOOD | {
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
}
# CloudFormation updates it only after the rollback is continued to its end.
_ROLLBACK_FAILED = "UPDATE_ROLLBACK_FAILED"
# CloudFormation updates no stack in one of these states; it can only be deleted.
_BROKEN = {
    "CREATE_FAILED",
    "DELETE_FAILED",
    "REVIEW_IN_PROGRESS",
    "ROLLBACK_COMPLETE",
    "ROLLBACK_FAILED",
}


def as_parameters(parameters: dict[str, str]) -> list[dict[str, str]]:
    """Return a template's parameters in CloudFormation's form."""
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]


class Stacks:
    """Stacks by name."""

    def __init__(self, client: Any, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    def find(self, name: str) -> dict[str, Any] | None:
        """Return CloudFormation's description of a stack, or None if it does not exist."""
        try:
            stack: dict[str, Any] = self._client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            # Only the message tells a missing stack apart.
            if "does not exist" in message_of(error):
                return None
            raise
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack

    def every(self) -> list[dict[str, Any]]:
        """Return the descriptions of all stacks that are not deleted."""
        pages = self._client.get_paginator("describe_stacks").paginate()
        stacks = [stack for page in pages for stack in page["Stacks"]]
        return [stack for stack in stacks if stack["StackStatus"] != "DELETE_COMPLETE"]

    def ensure(
        self, name: str, template: str, parameters: dict[str, str], tags: list[dict[str, str]]
    ) -> None:
        """Create the stack, or update it, whatever its state is now.

        Raises:
            StackFailed: if CloudFormation rolls back; the message has the resource and the reason.
            TookTooLong: after 30 minutes.
        """
        self._settle(name)
        # Not left to CloudFormation, which asks for the right to update before it compares.
        if self.has(name, template, parameters):
            return
        stack = self.find(name)
        if stack and stack["StackStatus"] == _ROLLBACK_FAILED:
            self._client.continue_update_rollback(StackName=name)
            self._settle(name)
            # Still the same if the cause of the failure is.
            self._check(name, _GOOD_UNCHANGED)
        if stack and stack["StackStatus"] in _BROKEN:
            self.delete(name)
            stack = None
        changed = self._write(name, template, parameters, tags, exists=stack is not None)
        self._settle(name)
        self._check(name, _GOOD if changed else _GOOD_UNCHANGED)

    def has(self, name: str, template: str, parameters: dict[str, str]) -> bool:
        """Whether a finished stack is made from this template, with these parameters."""
        stack = self.find(name)
        if stack is None or stack["StackStatus"] not in _GOOD_UNCHANGED:
            return False
        if not parameters.items() <= self.parameters(name).items():
            return False
        return self.template(name) == template.strip()

    def template(self, name: str, **change_set: str) -> str:
        """Return a stack's template without surrounding space, or that of its change set."""
        body = self._client.get_template(StackName=name, **change_set)["TemplateBody"]
        # boto3 reads a template in JSON; Easel's are in YAML.
        return body.strip() if isinstance(body, str) else ""

    def require_usable(self, name: str) -> None:
        """Wait until nothing is being changed, and raise StackFailed if the stack is broken."""
        self._settle(name)
        status = (self.find(name) or {}).get("StackStatus", "")
        if status == _ROLLBACK_FAILED or status in _BROKEN - {"REVIEW_IN_PROGRESS"}:
            raise StackFailed(
                f"The stack {name} is in the state {status}, in which it cannot be changed.",
                "`python -m endpoint deploy` repairs it, and `./setup.sh destroy` deletes it.",
            )

    def require_changed(self, name: str) -> None:
        """Wait for the end of a change; raise StackFailed if CloudFormation rolled back."""
        self._settle(name)
        self._check(name, _GOOD)

    def _write(
        self,
        name: str,
        template: str,
        parameters: dict[str, str],
        tags: list[dict[str, str]],
        *,
        exists: bool,
    ) -> bool:
        """Begin to create or update the stack; return False if there is nothing to update."""
        write = self._client.update_stack if exists else self._client.create_stack
        try:
            write(
                StackName=name,
                # At most 51,200 bytes:
                # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
                TemplateBody=template,
                Parameters=as_parameters(parameters),
                Capabilities=["CAPABILITY_NAMED_IAM"],  # the roles have names of their own
                Tags=tags,
            )
        except ClientError as error:
            # CloudFormation reports an update without changes as an error.
            if "No updates are to be performed" not in message_of(error):
                raise
            return False
        return True

    def delete(self, name: str) -> None:
        """Delete the stack, if it exists, and wait until it is gone.

        Raises:
            StackFailed: if CloudFormation cannot delete one of its resources.
            TookTooLong: after 30 minutes.
        """
        self._settle(name)
        if self.find(name) is None:
            return
        self._client.delete_stack(StackName=name)
        self._settle(name)
        if not self._waiting.pretend and self.find(name) is not None:
            raise StackFailed(
                f"The stack {name} could not be deleted: {self._reason(name)}",
                "Remove the resource that the message names, and run the same command again.",
            )

    def resources(self, name: str) -> dict[str, str]:
        """Return the states of the stack's resources, by their names in AWS."""
        found = self._client.describe_stack_resources(StackName=name)["StackResources"]
        return {item.get("PhysicalResourceId", ""): item["ResourceStatus"] for item in found}

    def outputs(self, name: str) -> dict[str, str]:
        """Return the stack's outputs; empty if the stack does not exist."""
        stack = self.find(name) or {}
        return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}

    def parameters(self, name: str) -> dict[str, str]:
        """Return the stack's parameters; empty if the stack does not exist."""
        stack = self.find(name) or {}
        parameters = stack.get("Parameters", [])
        return {item["ParameterKey"]: item["ParameterValue"] for item in parameters}

    def _settle(self, name: str) -> None:
        def poll() -> str | None:
            stack = self.find(name)
            status = stack["StackStatus"] if stack else ""
            # REVIEW_IN_PROGRESS is the state of a change set that nobody executed: it never ends.
            busy = status.endswith("_IN_PROGRESS") and status not in _BROKEN
            return f"infrastructure: {status.lower().replace('_', ' ')}" if busy else None

        self._waiting.until_done(poll, at_most=_MOST_SECONDS, every=5)

    def _check(self, name: str, good: set[str]) -> None:
        # After a failure CloudFormation rolls back, which ends in a state of its own.
        stack = self.find(name)
        if self._waiting.pretend or (stack and stack["StackStatus"] in good):
            return
        raise StackFailed(
            f"CloudFormation could not create or update the stack {name}: {self._reason(name)}",
            "Fix the cause, and run the same command again. What the stack had before is kept.",
        )

    def _reason(self, name: str) -> str:
        """Return the first failure of the last attempt; later ones are its consequences."""
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=name)
        reasons = []
        for event in (event for page in pages for event in page["StackEvents"]):  # newest first
            if event["ResourceStatus"].endswith("_FAILED") and event.get("ResourceStatusReason"):
                reasons.append(f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}")
            elif event["LogicalResourceId"] == name and event["ResourceStatus"].endswith(
                ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
            ):
                break  # the start of the last attempt
        return reasons[-1] if reasons else "it gave no reason"
