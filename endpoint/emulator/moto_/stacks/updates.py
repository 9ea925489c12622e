"""What moto 5.2.5 leaves as it was when a stack is updated: inline policies, and inline code."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from endpoint.emulator.moto_.patching import replace

_UPDATE = "update_from_cloudformation_json"


def install() -> None:
    """Patch moto's roles and functions."""
    from moto.awslambda.models import LambdaFunction
    from moto.iam.models import Role

    replace(Role, _UPDATE, _with_policies)
    replace(LambdaFunction, _UPDATE, _with_code)


def _with_policies(original: Callable[..., Any]) -> Any:
    def apply(_: Any, /, *, original_resource: Any, cloudformation_json: Any, **more: Any) -> Any:
        role = original_resource
        updated = original(original_resource=role, cloudformation_json=cloudformation_json, **more)
        # What other resources have attached to the role stays.
        for policy in cloudformation_json["Properties"].get("Policies", []):
            role.put_policy(policy["PolicyName"], policy["PolicyDocument"])
        return updated

    return classmethod(apply)


def _with_code(original: Callable[..., Any]) -> Any:
    def apply(cls: Any, /, *, cloudformation_json: Any, **more: Any) -> Any:
        properties = dict(cloudformation_json["Properties"])
        if "ZipFile" in properties["Code"]:
            # The text of a file, which only the creation of a function makes an archive of.
            archive = cls._create_zipfile_from_plaintext_code(properties["Code"]["ZipFile"])
            properties["Code"] = {"ZipFile": base64.b64encode(archive)}
        template = {**cloudformation_json, "Properties": properties}
        return original(cloudformation_json=template, **more)

    return classmethod(apply)
