"""A stack's project of CodeBuild."""

from __future__ import annotations

from typing import Any

from moto.codebuild.models import codebuild_backends

from endpoint.emulator.moto_.stacks.resource import StackResource


class Project(StackResource):
    """AWS::CodeBuild::Project."""

    arn: str

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "Arn"

    def get_cfn_attribute(self, attribute_name: str) -> str:  # noqa: ARG002 - there is one
        """Return the ARN."""
        return self.arn

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], account: str, region: str) -> Project:
        """Create the project."""
        project = cls(properties.get("Name", name))
        project.change(properties, account, region)
        return project

    def change(self, properties: dict[str, Any], account: str, region: str) -> None:
        """Put a project with these properties in its place; it keeps its builds."""
        own, name = _lower(properties), self.physical_resource_id
        backend = codebuild_backends[account][region]
        history = backend.build_history.get(name, [])
        data = backend.create_project(
            name,
            own.get("description"),
            own["source"],
            own["artifacts"],
            own["environment"],
            own["serviceRole"],
            own.get("tags"),
            own.get("cache"),
            own.get("timeoutInMinutes"),
            own.get("queuedTimeoutInMinutes"),
            own.get("sourceVersion"),
            own.get("logsConfig"),
            own.get("vpcConfig"),
        )
        backend.build_history[name] = history
        self.arn = data["arn"]

    @classmethod
    def remove(cls, name: str, account: str, region: str) -> None:
        """Delete the project."""
        codebuild_backends[account][region].delete_project(name)


def _lower(value: Any) -> Any:
    """Return CloudFormation's properties under the names of the API."""
    if isinstance(value, list):
        return [_lower(item) for item in value]
    if isinstance(value, dict):
        return {_API.get(k, k[:1].lower() + k[1:]): _lower(item) for k, item in value.items()}
    return value


_API = {"BuildSpec": "buildspec"}
