"""CloudFormation: the types of resources that moto 5.2.5 cannot create, and list parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from endpoint.emulator.moto_.patching import replace

_UNSUPPORTED = {"AWS::S3::BucketPolicy", "AWS::Budgets::Budget"}


@cache
def skip_unsupported() -> None:
    """Let stacks succeed without the resources that moto would only warn about.

    Called when the first stack is used: moto's CloudFormation is half of moto, and slow to import.
    """
    from moto.cloudformation import parsing
    from moto.core.common_models import CloudFormationModel

    class Nothing(CloudFormationModel):
        physical_resource_id = "nothing"

        @staticmethod
        def cloudformation_name_type() -> str:
            return ""

        @classmethod
        def create_from_cloudformation_json(cls, *_: Any, **__: Any) -> Nothing:
            return cls()

        @classmethod
        def update_from_cloudformation_json(cls, *_: Any, **__: Any) -> Nothing:
            return cls()

        @classmethod
        def delete_from_cloudformation_json(cls, *_: Any, **__: Any) -> None:
            """Leave nothing."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda resource_type: (
            Nothing if resource_type in _UNSUPPORTED else original(resource_type)
        )

    replace(parsing, "resource_class_from_type", wrap)
    _describe_lists_as_text()


def _describe_lists_as_text() -> None:
    """Describe a list parameter as it was passed: moto writes the list of Python."""
    from moto.cloudformation.models import Stack

    # moto's own is a property, whose getter is wrapped.
    original: Any = vars(Stack)["parameter_list"].fget

    def described(stack: Any) -> list[dict[str, Any]]:
        return [
            {**item, "ParameterValue": ",".join(value) if isinstance(value, list) else value}
            for item in original(stack)
            for value in [item["ParameterValue"]]
        ]

    stack_class: Any = Stack
    stack_class.parameter_list = property(described)
