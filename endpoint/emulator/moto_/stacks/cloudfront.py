"""CloudFront's resources of a stack.

They have names and can be deleted. Nothing is served under a distribution's domain.
"""

from __future__ import annotations

import hashlib

from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.moto_.stacks.resource import StackResource


class CloudFrontResource(StackResource):
    """A function, a cache policy or a distribution."""

    def __init__(self, name: str) -> None:
        # As long as CloudFront's own ids, and the same for the same resource.
        super().__init__(f"E{hashlib.sha256(name.encode()).hexdigest()[:13].upper()}")

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Whether a template can ask for an attribute."""
        return attr in {"DomainName", "FunctionARN", "Id"}

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """Return an attribute that another resource or an output asks for."""
        name = self.physical_resource_id
        return {
            "DomainName": f"d{name[1:].lower()}.cloudfront.net",
            "FunctionARN": f"arn:aws:cloudfront::{ACCOUNT}:function/{name}",
        }.get(attribute_name, name)
