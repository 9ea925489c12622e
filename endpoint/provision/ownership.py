"""Which of the resources with a deployment's names are the deployment's.

Names decide nothing: others can use the same ones in the account. A resource is the deployment's
if it has its tag, or if it was made by what has: the tagged stack's bucket, a function
with its role, a REST API in front of that function, the scaling of an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from endpoint.aws.change_sets import REVIEW
from endpoint.aws.logs import group_of
from endpoint.cli.context import Context
from endpoint.cli.inventory import (
    BUILD,
    GUARD,
    LEASE,
    PIPELINE,
    PROJECT,
    REPOSITORY,
    RULE,
    TRAINING,
    Resource,
)
from endpoint.core.naming import TAG
from endpoint.core.problems import ScriptError

_NOT_MADE = {"CREATE_FAILED", "DELETE_COMPLETE", "DELETE_SKIPPED"}


class Ownership:
    """Tells a deployment's resources from others of the same names, by asking AWS for each."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployment = context.deployment

    def owns(self, resource: Resource) -> bool:
        """Whether a resource of the inventory is the deployment's."""
        # What has no rule here was found by its tag.
        rule = self._rules.get(resource.kind)
        return rule is None or rule(resource.name)

    @cached_property
    def _rules(self) -> dict[str, Callable[[str], bool]]:
        own = self._deployment
        return {
            "endpoint": self.owns_endpoint,
            "endpoint configuration": self.owns_config,
            "model": self.owns_model,
            "scaling of": self.owns_scaling,
            "alarm": self._owns_alarm,
            "Lambda function": lambda name: name == own.function and self.owns_function,
            "REST API": self._owns_api,
            GUARD: lambda name: name == own.guard and self.owns_stack,
            LEASE: lambda name: name.startswith(f"{own.prefix}-") and self.owns_stack,
            "log group": self._owns_logs,
            "stack": self._owns_stack,
            "bucket": self._owns_bucket,
            REPOSITORY: lambda name: name == own.repository and self._owns_repository(),
            PROJECT: lambda name: name == own.build_project and self.owns_project,
            BUILD: lambda name: name.startswith(f"{own.build_project}:") and self.owns_project,
            RULE: self._owns_rule,
            TRAINING: lambda name: self._is_own(self._tags(f"training-job/{name}")),
            PIPELINE: lambda name: name == own.training_stack and self._owns_training_stack,
        }

    @cached_property
    def owns_stack(self) -> bool:
        """Whether the stack exists, with the tag.

        The empty stack of a plan has no tags before the plan is applied.
        """
        stack = self._context.stacks.find(self._deployment.stack) or {}
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
        return self._is_own(tags) or (not tags and stack.get("StackStatus") == REVIEW)

    @cached_property
    def _owns_training_stack(self) -> bool:
        return self._has_tag(self._deployment.training_stack)

    def _has_tag(self, name: str) -> bool:
        stack = self._context.stacks.find(name) or {}
        return self._is_own({tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])})

    def _owns_stack(self, name: str) -> bool:
        if name == self._deployment.training_stack:
            return self._owns_training_stack
        if name == self._deployment.cdn_stack:
            return self._has_tag(name)
        return name == self._deployment.stack and self.owns_stack

    @cached_property
    def owns_function(self) -> bool:
        """Whether the function exists, with the tag or with the role that the stack made for it."""
        function = self._context.gateway.function(self._deployment.function)
        if function is None:
            return False
        own_role = function.get("Role") == self._deployment.gateway_role
        return own_role or self._is_own(
            self._context.gateway.function_tags(function["FunctionArn"])
        )

    def owns_endpoint(self, name: str) -> bool:
        """Whether an endpoint has the tag, or no tag at all and the deployment's configuration."""
        description = self._context.endpoints.find(name)
        if description is None:
            return False
        tags = self._tags(f"endpoint/{name}")
        if tags:
            return self._is_own(tags)
        return self.owns_config(description["EndpointConfigName"])

    def owns_config(self, name: str) -> bool:
        """Whether an endpoint configuration has the tag."""
        return self._is_own(self._tags(f"endpoint-config/{name}"))

    def owns_model(self, name: str) -> bool:
        """Whether a SageMaker model has the tag."""
        return self._is_own(self._tags(f"model/{name}"))

    def owns_scaling(self, endpoint: str) -> bool:
        """Whether an endpoint's alarm, policies and target are the deployment's."""
        # AWS scales only what exists: without its endpoint it is what an interrupted run left.
        return not self._exists(endpoint) or self.owns_endpoint(endpoint)

    def refuse_others(self, endpoint: str) -> None:
        """Raise ScriptError if the stack or an endpoint of this name exists and is not own.

        Creating would change or replace it.
        """
        others = self._other_stack()
        if self._exists(endpoint) and not self.owns_endpoint(endpoint):
            others.append(f"endpoint {endpoint}")
        self._refuse(others)

    def refuse_other_stack(self) -> None:
        """Raise ScriptError if the stack exists and is not own."""
        self._refuse(self._other_stack())

    def _other_stack(self) -> list[str]:
        stack = self._deployment.stack
        exists = self._context.stacks.find(stack) is not None
        return [f"stack {stack}"] if exists and not self.owns_stack else []

    def refuse_other_function(self) -> None:
        """Raise ScriptError if the Lambda function exists and is not the deployment's."""
        name = self._deployment.function
        if self._context.gateway.function(name) and not self.owns_function:
            self._refuse([f"Lambda function {name}"])

    def _refuse(self, others: list[str]) -> None:
        if others:
            raise ScriptError(
                f"The {' and the '.join(others)} in this account is not Easel's: it has no tag"
                f" {TAG}={self._deployment.name}.",
                "Choose another --name.",
            )

    def _exists(self, endpoint: str) -> bool:
        description = self._context.endpoints.find(endpoint)
        return description is not None and description["EndpointStatus"] != "Deleting"

    def _is_own(self, tags: dict[str, str]) -> bool:
        return tags.get(TAG) == self._deployment.name

    def _tags(self, resource: str) -> dict[str, str]:
        return self._context.models.tags(self._arn("sagemaker", resource))

    def _owns_alarm(self, name: str) -> bool:
        return self._is_own(
            self._context.scaling.alarm_tags(self._arn("cloudwatch", f"alarm:{name}"))
        )

    def _owns_api(self, api: str) -> bool:
        if self._context.gateway.apis().get(api) != self._deployment.function_arn:
            return False
        tags = self._context.gateway.api_tags(api)
        return self._is_own(tags) or (TAG not in tags and self.owns_function)

    def _owns_logs(self, group: str) -> bool:
        tags = self._context.logs.tags(self._arn("logs", f"log-group:{group}"))
        if tags:
            return self._is_own(tags)
        if group == self._deployment.build_log:
            return self.owns_project
        # SageMaker makes the group again, without tags, for the last lines of a deleted endpoint.
        name = group.removeprefix(group_of(""))
        if name == group:  # Lambda's
            function = self._context.gateway.function(self._deployment.function)
            return function is None or self.owns_function
        return not self._exists(name) or self.owns_endpoint(name)

    def _owns_bucket(self, name: str) -> bool:
        if name not in {self._deployment.bucket, self._deployment.source_bucket}:
            return False
        if self._is_own(self._context.bucket_called(name).tags()):
            return True
        made = self._context.stacks.resources(self._deployment.stack) if self.owns_stack else {}
        return made.get(name, "CREATE_FAILED") not in _NOT_MADE

    @cached_property
    def owns_project(self) -> bool:
        """Whether the project that builds the image exists, with the tag."""
        return self._is_own(self._context.builds.project_tags(self._deployment.build_project))

    def _owns_repository(self) -> bool:
        arn = self._arn("ecr", f"repository/{self._deployment.repository}")
        return self._is_own(self._context.registry.tags(arn))

    def _owns_rule(self, name: str) -> bool:
        if name not in {self._deployment.build_project, *self._deployment.training_rules}:
            return False
        return self._is_own(self._context.builds.rule_tags(self._arn("events", f"rule/{name}")))

    def _arn(self, service: str, resource: str) -> str:
        own = self._deployment
        return f"arn:{own.partition}:{service}:{own.region}:{own.account}:{resource}"
