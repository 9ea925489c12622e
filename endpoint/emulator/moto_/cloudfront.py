"""CloudFront's resources of a stack, which moto 5.2.5 silently leaves out.

They have names and can be deleted. Nothing is served under a distribution's domain.
"""

from __future__ import annotations

import hashlib
from typing import Any

from moto.core.common_models import CloudFormationModel


class CloudFrontResource(CloudFormationModel):
    """A function, a cache policy or a distribution."""

    def __init__(self, name: str) -> None:
        # As long as CloudFront's own ids, and the same for the same stack.
        self.physical_resource_id = f"E{hashlib.sha256(name.encode()).hexdigest()[:13].upper()}"

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Whether a template can ask for an attribute."""
        return attr in {"DomainName", "FunctionARN", "Id"}

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """Return an attribute that another resource or an output asks for."""
        name = self.physical_resource_id
        return {
            "DomainName": f"d{name[1:].lower()}.cloudfront.net",
            "FunctionARN": f"arn:aws:cloudfront::123456789012:function/{name}",
        }.get(attribute_name, name)

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, *_: Any, **__: Any
    ) -> CloudFrontResource:
        """Create the resource."""
        return cls(f"{resource_name} {cloudformation_json['Type']}")

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource: Any, *_: Any, **__: Any
    ) -> CloudFrontResource:
        """Keep the resource, whatever its properties are."""
        resource: CloudFrontResource = original_resource
        return resource

    @classmethod
    def delete_from_cloudformation_json(cls, *_: Any, **__: Any) -> None:
        """Leave nothing."""
