"""What the resources have in common that moto 5.2.5 silently leaves out of stacks."""

from __future__ import annotations

from typing import Any, TypeVar

from moto.core.common_models import CloudFormationModel

Resource = TypeVar("Resource", bound="StackResource")


class StackResource(CloudFormationModel):
    """A resource that has a name, and nothing else comes of it; subclasses say what does.

    Args:
        name: what a reference to the resource returns, and what a deletion names.
    """

    def __init__(self, name: str) -> None:
        self.physical_resource_id = name

    @classmethod
    def make(
        cls: type[Resource], name: str, properties: dict[str, Any], account: str, region: str
    ) -> Resource:
        """Create the resource.

        Args:
            name: for a resource that the template does not name.
            properties: as the template has them.
            account: the stack's account.
            region: the stack's region.
        """
        del properties, account, region
        return cls(name)

    def change(self, properties: dict[str, Any], account: str, region: str) -> None:
        """Give the resource the properties of an update."""

    @classmethod
    def remove(cls, name: str, account: str, region: str) -> None:
        """Delete the resource."""

    # moto's own names for all this. It asks for no name property: it knows only its own types.

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def create_from_cloudformation_json(
        cls: type[Resource],
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Resource:
        properties = cloudformation_json["Properties"]
        return cls.make(resource_name, properties, account_id, region_name)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,  # noqa: ARG003 - it keeps its name
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> Any:
        original_resource.change(cloudformation_json["Properties"], account_id, region_name)
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Any,  # noqa: ARG003 - found by its name
        account_id: str,
        region_name: str,
    ) -> None:
        cls.remove(resource_name, account_id, region_name)
