"""Delete a deployment's resources, in the order of their dependencies.

    scaling          alarms first: they could start what is being deleted
    endpoint         until it is gone; from then on no instance costs money
    configurations and models, and their logs
    bucket           its files, and the parts of unfinished uploads
    stack            roles, bucket, dashboard, budget, network
    verification     a search by name and by tag for anything that remains

Missing resources are skipped, so the same command continues after any interruption.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from endpoint.aws.logs import group_of
from endpoint.aws.scaling import alarm_name
from endpoint.cli import inventory
from endpoint.cli.context import Context
from endpoint.cli.script import Result
from endpoint.core.naming import Deployment
from endpoint.core.problems import StackFailed
from endpoint.provision import payload


def delete_endpoints(context: Context, model: str | None) -> None:
    """Delete endpoints with their scaling, configurations, models and logs.

    Args:
        context: the deployment.
        model: one model's endpoint only; None for all of the deployment's.
    """
    own = _OwnNames(context.deployment, model)
    context.begin("scaling policies and alarms")
    # Searched for on their own, because an interrupted run can leave an alarm without its policies.
    context.scaling.delete_alarms(own.of(context.scaling.alarms(own.prefix)))
    for name in own.of(context.scaling.scaled(own.prefix)):
        context.scaling.remove(name)
    for name in own.of(context.endpoints.names(own.prefix)):
        context.begin(f"endpoint {name}")
        context.endpoints.delete(name)
    context.begin("endpoint configurations, models and logs")
    configs = context.models.configs(own.prefix)
    for name in own.of(item["EndpointConfigName"] for item in configs):
        context.models.delete_config(name)
    for name in own.of(item["ModelName"] for item in context.models.models(own.prefix)):
        context.models.delete_model(name)
    # Last, because the endpoint writes to its log until it is gone.
    groups = context.logs.sizes(group_of(own.prefix))
    for name in own.of(group.removeprefix(group_of("")) for group in groups):
        context.logs.delete(group_of(name))


@dataclass(frozen=True)
class _OwnNames:
    """Selects the names of a deployment's resources, or of one model's.

    AWS searches by prefix, which also finds deployments and models with longer names.
    """

    deployment: Deployment
    model: str | None

    @property
    def prefix(self) -> str:
        """The beginning of all of the names."""
        return self.deployment.endpoint(self.model or "")

    def of(self, names: Iterable[str]) -> list[str]:
        """Return the own ones of `names`."""
        return [name for name in names if self._is_own(name)]

    def _is_own(self, name: str) -> bool:
        if self.model is None:
            return self.deployment.owns(name)
        # By exact names: `easel-main-sd` is also the beginning of `easel-main-sd-turbo`.
        exact = {self.prefix, alarm_name(self.prefix)}
        return name in exact or self.deployment.is_version_of(name, self.model)


def delete_files(context: Context, model: str) -> list[str]:
    """Delete one model's code and weights from the bucket; return lines on what is kept."""
    context.begin(f"files of {model}")
    stored = payload.of_model(context.bucket, model)
    context.bucket.delete(stored.own)
    return stored.lines(context.bucket.name)


def delete_infrastructure(context: Context) -> payload.Stored:
    """Empty the bucket and delete the stack, unless the bucket has files that are not Easel's.

    Those are kept, and so are the bucket and the stack.

    An endpoint that was busy a moment ago can still store a picture in the emptied bucket, and
    CloudFormation deletes only an empty bucket; so both steps are repeated once.
    """
    context.begin(f"bucket {context.deployment.bucket} and stack {context.deployment.stack}")
    stored = payload.everything(context.bucket)
    context.bucket.empty(keep=stored.others)
    if stored.others:
        return stored
    try:
        context.stacks.delete(context.deployment.stack)
    except StackFailed:
        context.bucket.empty()
        context.stacks.delete(context.deployment.stack)
    return stored


def verify(context: Context, stored: payload.Stored) -> Result:
    """Search for the deployment's resources; the result is good if there are none.

    Args:
        context: the deployment.
        stored: what was in its bucket.
    """
    if context.dry_run:
        return Result({"left": []}, ["Dry run: nothing was deleted."])
    scanned = inventory.scan(context, context.name)
    # A REST API of an unknown deployment can belong to another one; it does not count as left.
    left = [
        resource
        for resource in scanned.resources
        if resource.deployment or resource.kind == "tagged"
    ]
    data = {
        "left": [resource.to_dict() for resource in left],
        "notes": scanned.notes,
        "kept": stored.others,
    }
    if not left:
        return Result(data, ["Everything is deleted; nothing costs anything.", *scanned.notes])
    lines = ["Left:", *(f"  {resource.line()}" for resource in left), *scanned.notes]
    if stored.others:
        lines += stored.lines(context.bucket.name)
        lines.append(
            "These files prevent deleting the bucket and its stack: copy those that you need,"
            " delete them, and run the same command again."
        )
    elif all(resource.kind in inventory.GATEWAY_KINDS for resource in left):
        lines.append("`./setup.sh destroy` removes the gateway as well.")
    else:
        lines.append("Run the same command again; remove by hand what still remains after that.")
    return Result(data, lines, good=False)
