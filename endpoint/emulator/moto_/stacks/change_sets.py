"""CloudFormation's change sets, where moto 5.2.5 differs from it.

moto makes a second stack of the same name for a second change set, returns the stack's template in
place of a change set's, applies any change set at any time, and knows no obsolete ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from endpoint.emulator.moto_.patching import replace

_REVIEW = "REVIEW_IN_PROGRESS"


def install() -> None:
    """Patch moto's change sets."""
    from moto.cloudformation.models import CloudFormationBackend
    from moto.cloudformation.responses import CloudFormationResponse

    replace(CloudFormationBackend, "create_change_set", _create)
    replace(CloudFormationBackend, "describe_change_set", _describe)
    replace(CloudFormationBackend, "delete_change_set", _delete)
    replace(CloudFormationBackend, "execute_change_set", _execute)
    replace(CloudFormationBackend, "update_stack", _update)
    replace(CloudFormationResponse, "create_change_set", _report_no_changes)
    replace(CloudFormationResponse, "list_change_sets", _list)
    replace(CloudFormationResponse, "get_template", _template)


def _report_no_changes(original: Callable[..., Any]) -> Callable[..., Any]:
    """Let a change set without changes fail, and not the call."""

    def call(self: Any) -> Any:
        self._validate_different_update = lambda *_: None
        return original(self)

    return call


def _create(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, **names: Any) -> Any:
        from moto.cloudformation.exceptions import ValidationError

        own = [stack for stack in self.stacks.values() if stack.name == names["stack_name"]]
        if names["change_set_type"] == "CREATE" and own:
            if own[0].status != _REVIEW:
                message = f"Stack [{own[0].name}] already exists and cannot be created again"
                raise ValidationError(message=f"{message} with the changeSet.")
            del self.stacks[own[0].stack_id]
            arn, stack = original(self, **names)
            # What was planned before is for the same stack.
            made = self.stacks.pop(stack)
            made.stack_id = own[0].stack_id
            self.stacks[made.stack_id] = made
            for change_set in self.change_sets.values():
                if change_set.stack_id in {stack, made.stack_id}:
                    change_set.stack, change_set.stack_id = made, made.stack_id
            return arn, made.stack_id
        return original(self, **names)

    return call


def _found(backend: Any, name: str) -> Any:
    from moto.core.exceptions import ServiceException

    class ChangeSetNotFoundException(ServiceException):
        code = "ChangeSetNotFound"

    for arn, change_set in backend.change_sets.items():
        if name in (arn, change_set.change_set_name):
            return change_set
    raise ChangeSetNotFoundException(f"ChangeSet [{name}] does not exist")


def _describe(_: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, change_set_name: str) -> Any:
        return _found(self, change_set_name)

    return call


def _delete(_: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, change_set_name: str) -> None:
        del self.change_sets[_found(self, change_set_name).change_set_id]

    return call


def _execute(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, change_set_name: str, stack_name: str | None = None) -> None:
        from moto.core.exceptions import ServiceException

        class InvalidChangeSetStatusException(ServiceException):
            code = "InvalidChangeSetStatus"

        change_set = _found(self, change_set_name)
        if change_set.execution_status != "AVAILABLE":
            raise InvalidChangeSetStatusException(
                f"ChangeSet [{change_set.change_set_id}] cannot be executed in its current"
                f" execution status of [{change_set.execution_status}]"
            )
        stack = self.stacks[change_set.stack_id]
        original(self, change_set.change_set_id, stack_name)
        stack.parameters, stack.tags = change_set.parameters, change_set.tags or stack.tags
        stack.role_arn = change_set.role_arn or stack.role_arn
        stack._parse_template()
        stack.output_map = stack._create_output_map()
        # CloudFormation deletes the others.
        for arn, other in list(self.change_sets.items()):
            if other.stack_id == stack.stack_id and other is not change_set:
                del self.change_sets[arn]

    return call


def _update(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, name: str, *arguments: Any, **more: Any) -> Any:
        stack = original(self, name, *arguments, **more)
        for change_set in self.change_sets.values():
            if change_set.stack_id == stack.stack_id:
                change_set.execution_status = "OBSOLETE"
        return stack

    return call


def _list(_: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any) -> Any:
        from moto.core.responses import ActionResult

        name = self._get_param("StackName")
        every = self.cloudformation_backend.list_change_sets()
        return ActionResult({"Summaries": [each for each in every if each.stack_name == name]})

    return call


def _template(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any) -> Any:
        from moto.core.responses import ActionResult

        name = self._get_param("ChangeSetName")
        if not name:
            return original(self)
        return ActionResult({"TemplateBody": _found(self.cloudformation_backend, name).template})

    return call
