"""CloudFormation's change sets: what an update of a stack would change, to be read first.

A change set for a stack that does not exist makes an empty one in the state REVIEW_IN_PROGRESS,
which costs nothing and lasts until the change set is applied or the stack is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from endpoint.aws.stacks import Stacks, as_parameters
from endpoint.core.problems import StackFailed, code_of
from endpoint.core.waiting import Waiting

_MOST_SECONDS = 1800
# CloudFormation reports a change set without changes as failed.
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
REVIEW = "REVIEW_IN_PROGRESS"


@dataclass(frozen=True)
class Change:
    """What happens to one resource.

    Attributes:
        action: Add, Modify, Remove, Import or Dynamic.
        resource: its logical name in the template.
        kind: its type, such as AWS::S3::Bucket.
        replacement: True, False or Conditional for a Modify, else empty.
        properties: the names of the properties that change.
    """

    action: str
    resource: str
    kind: str
    replacement: str
    properties: tuple[str, ...]

    @classmethod
    def of(cls, item: dict[str, Any]) -> Change:
        change = item["ResourceChange"]
        targets = [detail.get("Target", {}) for detail in change.get("Details", [])]
        names = {target.get("Name") or target.get("Attribute", "") for target in targets}
        return cls(
            change["Action"],
            change["LogicalResourceId"],
            change["ResourceType"],
            change.get("Replacement", ""),
            tuple(sorted(names - {""})),
        )


@dataclass(frozen=True)
class ChangeSet:
    """A change set as CloudFormation describes it.

    Attributes:
        stack: the name of its stack.
        status: CREATE_COMPLETE once it can be read.
        execution: AVAILABLE until it is applied, or OBSOLETE once the stack was changed otherwise.
        reason: why it failed.
        parameters: all of its parameters.
    """

    arn: str
    stack: str
    status: str
    execution: str
    reason: str
    parameters: dict[str, str]
    changes: tuple[Change, ...]


class ChangeSets:
    """Change sets by ARN.

    Args:
        client: the client of cloudformation.
    """

    def __init__(self, client: Any, stacks: Stacks, waiting: Waiting) -> None:
        self._client = client
        self._stacks = stacks
        self._waiting = waiting

    def create(
        self,
        stack: str,
        name: str,
        template: str,
        parameters: dict[str, str],
        tags: list[dict[str, str]],
        *,
        description: str,
        role: str | None,
    ) -> ChangeSet | None:
        """Create a change set and return it once it can be read; None if it would change nothing.

        Args:
            stack: the stack, which does not have to exist.
            name: the change set's own name.
            template: the template's text.
            parameters: the template's parameters.
            tags: the stack's tags.
            description: at most 1,024 characters.
            role: the ARN of the role that CloudFormation works with; None for the caller's rights.

        Raises:
            StackFailed: if CloudFormation cannot create it.
        """
        before = self._stacks.find(stack)
        new = before is None or before["StackStatus"] == REVIEW
        arn = self._client.create_change_set(
            StackName=stack,
            ChangeSetName=name,
            ChangeSetType="CREATE" if new else "UPDATE",
            Description=description,
            TemplateBody=template,
            Parameters=as_parameters(parameters),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Tags=tags,
            **({"RoleARN": role} if role else {}),
        )["Id"]
        change_set = self._created(stack, arn)
        if change_set is None or change_set.status != "FAILED":
            return change_set
        self.delete(change_set)
        if any(phrase in change_set.reason for phrase in _NO_CHANGES):
            return None
        raise StackFailed(f"CloudFormation could not plan {stack}: {change_set.reason}")

    def _created(self, stack: str, arn: str) -> ChangeSet | None:
        found: ChangeSet | None = None

        def poll() -> str | None:
            nonlocal found
            found = self.find(stack, arn)
            busy = found and found.status in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}
            return "the change set is being created" if busy else None

        self._waiting.until_done(poll, at_most=_MOST_SECONDS, every=2)
        return found

    def find(self, stack: str, arn: str) -> ChangeSet | None:
        """Return a stack's change set by its ARN, or None if it does not exist."""
        # IAM decides by the stack, which the ARN does not name.
        pages = self._client.get_paginator("describe_change_set").paginate(
            StackName=stack, ChangeSetName=arn
        )
        try:
            found = list(pages)
        except ClientError as error:
            # Also where the stack is gone that it was for.
            if code_of(error) in {"ChangeSetNotFound", "ChangeSetNotFoundException"}:
                return None
            if "does not exist" in str(error):
                return None
            raise
        first = found[0]
        return ChangeSet(
            first["ChangeSetId"],
            first["StackName"],
            first["Status"],
            first.get("ExecutionStatus", ""),
            first.get("StatusReason") or "",
            {item["ParameterKey"]: item["ParameterValue"] for item in first.get("Parameters", [])},
            tuple(
                Change.of(item)
                for page in found
                for item in page.get("Changes", [])
                if item.get("Type", "Resource") == "Resource"
            ),
        )

    def template(self, change_set: ChangeSet) -> str:
        """Return the template of a change set, as it was passed."""
        return self._stacks.template(change_set.stack, ChangeSetName=change_set.arn)

    def execute(self, change_set: ChangeSet) -> None:
        """Apply a change set, and wait for its end.

        Raises:
            StackFailed: if CloudFormation rolls back; the message has the resource and the reason.
            TookTooLong: after 30 minutes.
        """
        self._client.execute_change_set(StackName=change_set.stack, ChangeSetName=change_set.arn)

        def poll() -> str | None:
            # The stack's own state can be behind.
            now = self.find(change_set.stack, change_set.arn)
            busy = now and now.execution in {"AVAILABLE", "EXECUTE_IN_PROGRESS"}
            return "the change set is being applied" if busy else None

        self._waiting.until_done(poll, at_most=_MOST_SECONDS, every=5)
        self._stacks.require_changed(change_set.stack)

    def labelled(self, stack: str, label: str) -> list[str]:
        """Return the ARNs of a stack's change sets whose descriptions begin with `label:`."""
        return [
            item["ChangeSetId"]
            for item in self._of(stack)
            if item.get("Description", "").startswith(f"{label}:")
        ]

    def is_abandoned(self, stack: str) -> bool:
        """Whether a stack is empty, and no change set is left that would fill it."""
        found = self._stacks.find(stack)
        return found is not None and found["StackStatus"] == REVIEW and not self._of(stack)

    def _of(self, stack: str) -> list[dict[str, Any]]:
        if self._stacks.find(stack) is None:
            return []
        pages = self._client.get_paginator("list_change_sets").paginate(StackName=stack)
        return [item for page in pages for item in page["Summaries"]]

    def delete(self, change_set: ChangeSet) -> None:
        """Delete a change set; what it was for stays as it is."""
        self._client.delete_change_set(StackName=change_set.stack, ChangeSetName=change_set.arn)
