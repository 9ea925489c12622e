"""CloudFormation: what moto 5.2.5 cannot create, lists, and updates as CloudFormation refuses them.

moto compares an update's parameters with all of the template's, so that it never finds "No updates
are to be performed"; and it replaces any resource. CloudFormation replaces none under a name that a
template chose, and rolls the update back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from endpoint.emulator.moto_.patching import replace
from endpoint.emulator.moto_.stacks import change_sets, updates
from endpoint.emulator.moto_.stacks.cloudfront import CloudFrontResource
from endpoint.emulator.moto_.stacks.codebuild import Project
from endpoint.emulator.moto_.stacks.pipeline import Pipeline
from endpoint.emulator.moto_.stacks.resource import StackResource
from endpoint.emulator.moto_.stacks.scheduler import Schedule, ScheduleGroup

_UNSUPPORTED = {"AWS::S3::BucketPolicy", "AWS::Budgets::Budget", "AWS::IAM::OIDCProvider"}
_CLOUDFRONT = {f"AWS::CloudFront::{kind}" for kind in ("CachePolicy", "Distribution", "Function")}
# The name that a template can choose, and the other properties whose change replaces the resource,
# from CloudFormation's resource schemas (createOnlyProperties). Of the types in Easel's template.
CREATE_ONLY = {
    "AWS::S3::Bucket": ("BucketName", ("BucketNamePrefix", "BucketNamespace")),
    "AWS::IAM::Role": ("RoleName", ("Path",)),
    "AWS::Logs::LogGroup": ("LogGroupName", ()),
    "AWS::CloudWatch::Dashboard": ("DashboardName", ()),
    "AWS::Budgets::Budget": ("Budget/BudgetName", ("NotificationsWithSubscribers",)),
    "AWS::CodeBuild::Project": ("Name", ()),
    "AWS::ECR::Repository": (
        "RepositoryName",
        (
            "EncryptionConfiguration",
            "EncryptionConfiguration/EncryptionType",
            "EncryptionConfiguration/KmsKey",
        ),
    ),
    "AWS::Events::Rule": ("Name", ()),
    "AWS::Lambda::Function": ("FunctionName", ("PackageType", "TenancyConfig")),
    "AWS::SNS::Topic": ("TopicName", ("FifoTopic",)),
    "AWS::Scheduler::Schedule": ("Name", ()),
    "AWS::Scheduler::ScheduleGroup": ("Name", ()),
}


@cache
def install() -> None:
    """Patch moto's stacks.

    Called when the first stack is used: moto's CloudFormation is half of moto, and slow to import.
    """
    from moto.cloudformation import parsing

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        own = {
            "AWS::CodeBuild::Project": Project,
            "AWS::SageMaker::Pipeline": Pipeline,
            **dict.fromkeys(_CLOUDFRONT, CloudFrontResource),
            "AWS::Scheduler::Schedule": Schedule,
            "AWS::Scheduler::ScheduleGroup": ScheduleGroup,
            **dict.fromkeys(_UNSUPPORTED, StackResource),
        }
        return lambda resource_type: own.get(resource_type) or original(resource_type)

    replace(parsing, "resource_class_from_type", wrap)
    _make_whole_buckets()
    _delete_with_contents()
    _describe_lists_as_text()
    _refuse_updates()
    updates.install()
    change_sets.install()


def _make_whole_buckets() -> None:
    """Give a stack's buckets their versions, events and CORS rules, which moto leaves out."""
    from moto.s3.models import FakeBucket

    def wrap(original: Callable[..., Any]) -> Any:
        def apply(_: Any, *arguments: Any, **options: Any) -> Any:
            bucket = original(*arguments, **options)
            given = options.get("cloudformation_json") or arguments[1]
            _complete(bucket, given.get("Properties", {}))
            return bucket

        return classmethod(apply)

    replace(FakeBucket, "create_from_cloudformation_json", wrap)
    replace(FakeBucket, "update_from_cloudformation_json", wrap)


def _complete(bucket: Any, properties: dict[str, Any]) -> None:
    if properties.get("VersioningConfiguration", {}).get("Status") == "Enabled":
        bucket.versioning_status = "Enabled"
    if "NotificationConfiguration" in properties:
        bucket.set_notification_configuration({"EventBridgeConfiguration": {}})
    rules = properties.get("CorsConfiguration", {}).get("CorsRules", [])
    bucket.set_cors(
        [{_CORS[key]: _as_text(value) for key, value in rule.items()} for rule in rules]
    )


def _as_text(value: Any) -> Any:
    return value if isinstance(value, list) else str(value)


# The API's names of CloudFormation's properties.
_CORS = {
    "AllowedHeaders": "AllowedHeader",
    "AllowedMethods": "AllowedMethod",
    "AllowedOrigins": "AllowedOrigin",
    "ExposedHeaders": "ExposeHeader",
    "Id": "ID",
    "MaxAge": "MaxAgeSeconds",
}


def _delete_with_contents() -> None:
    """Delete a stack's repositories with their images, as EmptyOnDelete says; moto refuses."""
    from moto.ecr.models import Repository, ecr_backends

    def delete(self: Repository, account_id: str, region_name: str) -> None:
        ecr_backends[account_id][region_name].delete_repository(self.name, force=True)

    replace(Repository, "delete", lambda _: delete)


def _refuse_updates() -> None:
    from moto.cloudformation.exceptions import ValidationError
    from moto.cloudformation.models import Event, Stack
    from moto.cloudformation.responses import CloudFormationResponse

    def validate(_: Any, parameters: list[dict[str, str]], body: str, stack: Stack) -> None:
        asked = {item["ParameterKey"]: item["ParameterValue"] for item in parameters or []}
        if stack.template == body and asked.items() <= _passed(stack).items():
            raise ValidationError(message="No updates are to be performed.")

    def update(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Stack, template: str, role: Any, parameters: Any, tags: Any) -> None:
            before, old = _named(self), (self.template, _passed(self), self.tags)
            events = len(self.events)
            original(self, template, role, parameters, tags)
            for logical, (name, properties) in _named(self).items():
                same_name, others = before.get(logical, (None, None))
                if name is not None and name == same_name and properties != others:
                    original(self, old[0], role, old[1], old[2])
                    reason = (
                        "CloudFormation cannot update a stack when a custom-named resource requires"
                        f" replacing. Rename {name} and update the stack again."
                    )
                    # The beginning of the update, and its end.
                    del self.events[events + 1 :]
                    kind = self.resource_map._resource_json_map[logical]["Type"]
                    event = (logical, str(name), kind, "UPDATE_FAILED", reason, None)
                    self.events.append(Event(self.stack_id, self.name, *event))
                    self._add_stack_event("UPDATE_ROLLBACK_COMPLETE")
                    self.status = "UPDATE_ROLLBACK_COMPLETE"
                    return

        return call

    replace(CloudFormationResponse, "_validate_different_update", lambda _: validate)
    replace(Stack, "update", update)


def _passed(stack: Any) -> dict[str, str]:
    """Return a stack's parameters as text, as they were passed: moto keeps numbers and lists."""
    return {
        key: ",".join(value) if isinstance(value, list) else str(value)
        for key, value in stack.stack_parameters.items()
    }


def _named(stack: Any) -> dict[str, tuple[Any, list[Any]]]:
    """Return each resource's name and the other properties that cannot be changed."""
    from moto.cloudformation.parsing import clean_json

    resources = stack.resource_map
    found = {}
    for logical, resource in resources._resource_json_map.items():
        name, others = CREATE_ONLY.get(resource["Type"], (None, ()))
        condition = resource.get("Condition")
        if name and (condition is None or resources.lazy_condition_map[condition]):
            properties = clean_json(resource["Properties"], resources)
            identity: Any = properties
            for part in name.split("/"):
                identity = identity.get(part, {})
            found[logical] = (identity or None, [properties.get(other) for other in others])
    return found


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
