"""Delete a deployment's resources, in the order of their dependencies.

    search           what has the deployment's tag, or was made by what has; shown before a question
    training         jobs are stopped; the pipeline, its rules and roles are deleted
    gateway          its REST API and its function
    scaling          alarms first: they could start what is being deleted
    endpoint         until it is gone; from then on no instance costs money, and no lease is needed
    configurations and models, and their logs
    CDN              in front of the gateway; it takes minutes, in which nothing costs money
    builds           of the image, until none runs
    buckets          their files, and the parts of unfinished uploads
    stack            roles, buckets, images and what builds them, dashboard, budget, network
    verification     a search by name and by tag for anything that remains

Missing resources are skipped, so the same command continues after any interruption.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from endpoint.aws.logs import group_of
from endpoint.aws.scaling import alarm_name
from endpoint.catalogue import prices
from endpoint.cli import inventory
from endpoint.cli.context import Context
from endpoint.cli.inventory import (
    BUILD,
    GATEWAY_KINDS,
    GUARD,
    LEASE,
    PIPELINE,
    PROJECT,
    REPOSITORY,
    RULE,
    TRAINING,
    Resource,
)
from endpoint.cli.script import Result
from endpoint.core.naming import TAG, Deployment
from endpoint.core.problems import StackFailed, TookTooLong
from endpoint.provision.files import compiled, payload
from endpoint.provision.gateway.gateway_project import GatewayProject
from endpoint.provision.ownership import Ownership
from endpoint.provision.serving import in_service

_LATE_SECONDS = 60
_STOP_SECONDS = 600
_INFRASTRUCTURE_KINDS = {
    "bucket",
    "stack",
    REPOSITORY,
    PROJECT,
    BUILD,
    RULE,
    TRAINING,
    PIPELINE,
    GUARD,
}


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        own: the resources to delete.
        others: resources with the deployment's names that are not its own, which stay.
    """

    own: tuple[Resource, ...]
    others: tuple[Resource, ...]

    def names(self, kind: str) -> list[str]:
        """Return the names of the own resources of a kind."""
        return [resource.name for resource in self.own if resource.kind == kind]

    def lines(self, deployment: str) -> Iterator[str]:
        """Yield what will be deleted, and what will not, as lines of text."""
        yield "To be deleted:" if self.own else "There is nothing to delete."
        for resource in self.own:
            yield f"  {resource.line()}"
        yield from others_in_words(self.others, deployment)


def others_in_words(others: Collection[Resource], deployment: str) -> Iterator[str]:
    """Yield that resources are left alone, as lines of text."""
    if others:
        yield f"Left alone, because they do not have the tag {TAG}={deployment}:"
    for resource in others:
        yield f"  {resource.line()}"


def search(context: Context, model: str | None = None, *, gateway: bool = False) -> Found:
    """Return the deployment's resources.

    Args:
        context: the deployment.
        model: one model's endpoint, and what belongs to it; None for all.
        gateway: whether the gateway is to be deleted, too.
    """
    scanned = inventory.scan(context, context.name).resources
    candidates = [
        resource
        for resource in scanned
        # What only its tag reveals is of a kind that no step deletes; `verify` lists it.
        if resource.deployment and resource.kind != "tagged"
        if gateway or resource.kind not in GATEWAY_KINDS
        if model is None or _is_of_model(resource, context.deployment, model)
    ]
    return _split(context, candidates)


def _split(context: Context, resources: Collection[Resource]) -> Found:
    ownership = Ownership(context)
    own = [resource for resource in resources if ownership.owns(resource)]
    others = [resource for resource in resources if resource not in own]
    return Found(tuple(own), tuple(others))


def _is_of_model(resource: Resource, deployment: Deployment, model: str) -> bool:
    """Whether a resource belongs to one model, by its exact name.

    `easel-main-sd` is also the beginning of `easel-main-sd-turbo`.
    """
    endpoint = deployment.endpoint(model)
    exact = {endpoint, alarm_name(endpoint), group_of(endpoint)}
    if resource.kind in GATEWAY_KINDS | _INFRASTRUCTURE_KINDS:
        return False
    return resource.name in exact or deployment.is_version_of(resource.name, model)


def delete_gateway(context: Context, found: Found) -> None:
    """Delete the REST APIs and the function."""
    context.begin(f"gateway: Lambda function {context.deployment.function} and its REST API")
    # An API is found by the function that it calls, so the APIs go first.
    for api in found.names("REST API"):
        context.gateway.delete_api(api)
    for function in found.names("Lambda function"):
        context.gateway.delete_function(function)


def delete_training(context: Context, found: Found) -> None:
    """Stop training jobs, and delete the stack for training.

    First of all: its pipeline calls the gateway, its rules start jobs, and its policy belongs to a
    role of the deployment's stack.
    """
    stack = context.deployment.training_stack
    jobs = found.names(TRAINING)
    if stack not in found.names("stack") and not jobs:
        return
    if stack in found.names("stack"):
        context.begin(f"training: stack {stack}")
        context.stacks.delete(stack)
    if jobs:
        context.begin(f"training jobs: {', '.join(jobs)}")
        context.training.stop_and_wait(jobs)


def delete_endpoints(context: Context, found: Found) -> None:
    """Delete endpoints with their scaling, configurations, models and logs."""
    endpoints = found.names("endpoint")
    with in_service.scaled_again(context, endpoints):
        context.begin("scaling policies and alarms")
        # On their own, because an interrupted run can leave an alarm without its policies.
        context.scaling.delete_alarms(found.names("alarm"))
        for name in found.names("scaling of"):
            context.scaling.remove(name)
        for name in endpoints:
            context.begin(f"endpoint {name}")
            context.endpoints.delete(name)
    # Each ends its endpoint for as long as that exists.
    for name in found.names(LEASE):
        context.schedules.delete(context.deployment.lease_group, name)
    context.begin("endpoint configurations, models and logs")
    for name in found.names("endpoint configuration"):
        context.models.delete_config(name)
    for name in found.names("model"):
        context.models.delete_model(name)
    # Last, because the endpoint writes to its log until it is gone.
    for group in found.names("log group"):
        # The gateway's is a resource of the stack, which deletes it.
        if group.startswith(group_of("")):
            context.logs.delete(group)


def delete_cdn(context: Context, found: Found) -> None:
    """Delete the stack of the CDN, if there is one."""
    stack = context.deployment.cdn_stack
    if stack in found.names("stack"):
        context.begin(f"CDN: stack {stack}, which takes minutes")
        context.stacks.delete(stack)


def files_to_keep(context: Context, model: str | None = None) -> list[str]:
    """Return which files in the bucket will stay, as lines of text: what is not Easel's.

    Args:
        context: the deployment.
        model: as in `search`.
    """
    if model is not None:
        return payload.of_model(context.bucket, model).lines() if _owns_bucket(context) else []
    names = (context.deployment.bucket, context.deployment.source_bucket)
    buckets = [context.bucket_called(name) for name in names if _owns_bucket(context, name)]
    return payload.lines([payload.everything(bucket) for bucket in buckets])


def of_others(context: Context) -> Iterator[str]:
    """Yield which endpoints of others stay and what they cost, as lines of text."""
    for resource in inventory.of_others(context, context.name):
        if resource.costs:
            yield (
                f"Not Easel's, so it stays: the endpoint {resource.name},"
                f" {prices.in_words(resource.usd_per_hour)}."
            )


def trained_adapters(context: Context) -> list[str]:
    """Return which trained adapters will be deleted, as lines of text."""
    keys = payload.trained(context.bucket) if _owns_bucket(context) else []
    addresses = [f"  s3://{context.bucket.name}/{key}" for key in keys]
    head = "With the bucket, these trained adapters; download those that you need first:"
    return [head, *addresses] if addresses else []


def compiled_models(context: Context) -> list[str]:
    """Return which compiled models will be deleted, as lines of text."""
    return compiled.in_words(context.bucket) if _owns_bucket(context) else []


def _owns_bucket(context: Context, name: str = "") -> bool:
    name = name or context.deployment.bucket
    return Ownership(context).owns(Resource("bucket", name, context.name))


def delete_files(context: Context, model: str) -> list[str]:
    """Delete one model's code and weights from the bucket, if it is the deployment's.

    Returns:
        Lines of text on the files that are kept.
    """
    if not _owns_bucket(context):
        return []
    context.begin(f"files of {model}")
    stored = payload.of_model(context.bucket, model)
    context.bucket.delete(stored.own)
    return stored.lines()


def delete_infrastructure(context: Context, found: Found) -> list[payload.Stored]:
    """Empty the buckets and delete the stack, unless a bucket has files that are not Easel's.

    Those are kept, and so are the buckets and the stack.

    An endpoint that was busy a moment ago can still store a picture in the emptied bucket, and
    CloudFormation deletes only an empty bucket; so both steps are repeated once.
    """
    _stop_builds(context, found)
    context.begin(f"bucket {context.deployment.bucket} and stack {context.deployment.stack}")
    stored = []
    for name in found.names("bucket"):
        bucket = context.bucket_called(name)
        stored.append(payload.everything(bucket))
        bucket.empty(keep=stored[-1].others)
    if any(each.others for each in stored):
        return stored
    if context.deployment.stack in found.names("stack"):
        _delete_stack(context, found)
    # The stack's is gone with it, unless Lambda made it again for a last line.
    for group in found.names("log group"):
        context.logs.delete(group)
    return stored


def _stop_builds(context: Context, found: Found) -> None:
    """Stop the image's builds, which would push into a repository that is being deleted."""
    # Not only those that were found: the rule can have started one since.
    if not found.names(PROJECT):
        return
    project = context.deployment.build_project

    def poll() -> str | None:
        running = context.builds.running(project)
        for build in running:
            context.begin(f"build {build.id}: stopped")
            context.builds.stop(build.id)
        return f"stopping {running[0].id}" if running else None

    context.waiting.until_done(poll, at_most=_STOP_SECONDS, every=5)


def _delete_stack(context: Context, found: Found) -> None:
    # SageMaker removes its network interfaces with the endpoint's role, which is in the stack:
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeleteEndpoint.html
    if group := context.stacks.outputs(context.deployment.stack).get("SecurityGroupId"):
        context.network.wait_until_unused(group)
    try:
        context.stacks.delete(context.deployment.stack)
    except StackFailed:
        if not found.names("bucket"):
            raise
        for name in found.names("bucket"):
            context.bucket_called(name).empty()
        context.stacks.delete(context.deployment.stack)


def delete_everything(context: Context, found: Found | None = None) -> Result:
    """Delete the gateway and all that `delete` deletes; return what `verify` says.

    Args:
        context: the deployment.
        found: the resources that were shown and confirmed; None to search for them.
    """
    found = search(context, gateway=True) if found is None else found
    stored = None
    if found.own:
        delete_training(context, found)
        delete_gateway(context, found)
        delete_endpoints(context, found)
        delete_cdn(context, found)
        stored = delete_infrastructure(context, found)
    if not context.dry_run:
        GatewayProject(context.deployment).remove()
    return verify(context, found, stored)


def verify(
    context: Context, deleted: Found, stored: Sequence[payload.Stored] | None = None
) -> Result:
    """Search for the deployment's resources; the result is good if there are none.

    Args:
        context: the deployment.
        deleted: what was deleted before.
        stored: what was in its buckets.
    """
    kept = payload.lines(stored or [])
    if context.dry_run:
        return Result({"left": []}, ["Dry run: nothing was deleted."])
    found, notes = _search_again(context, deleted)
    left, notes = found.own, [*others_in_words(found.others, context.name), *notes]
    data = {
        "left": [resource.to_dict() for resource in left],
        "notes": notes,
        "kept": [key for each in stored or [] for key in each.others],
    }
    if not left:
        return Result(data, ["Everything is deleted; nothing costs anything.", *notes])
    lines = ["Left:", *(f"  {resource.line()}" for resource in left), *notes]
    if kept:
        lines += kept
        lines.append(
            "These files prevent deleting the bucket and its stack: copy those that you need,"
            " delete them, and run the same command again."
        )
    elif all(resource.kind in GATEWAY_KINDS for resource in left):
        lines.append("`./setup.sh destroy` removes the gateway as well.")
    else:
        lines.append("Run the same command again; remove by hand what still remains after that.")
    return Result(data, lines, good=False)


def _in_stack(resources: Collection[Resource]) -> set[str]:
    """Return the names of the log groups that belong to a stack which is still there."""
    if all(resource.kind != "stack" for resource in resources):
        return set()
    return {item.name for item in resources if not item.name.startswith(group_of(""))}


def _search_again(context: Context, deleted: Found) -> tuple[Found, list[str]]:
    """Return what is left, and what could not be searched.

    For a minute, what AWS shows or makes late does not count: the tag index is behind, and a last
    line of a container's log makes its group again.
    """
    results: list[tuple[Found, list[str]]] = []

    def poll() -> str | None:
        scanned = inventory.scan(context, context.name)
        # The gateway's is the stack's, which stays where the bucket has files of others.
        groups = set(deleted.names("log group")) - _in_stack(scanned.resources)
        late = [item.name for item in scanned.resources if item.name in groups]
        for group in late:
            context.logs.delete(group)
        # A REST API of an unknown deployment can belong to another one; it does not count as left.
        known = [
            item
            for item in scanned.resources
            if (item.deployment or item.kind == "tagged") and item.name not in late
        ]
        found = _split(context, known)
        results.append((found, scanned.notes))
        ghosts = bool(found.own) and all(item.kind == "tagged" for item in found.own)
        return "looking for what AWS shows late" if late or ghosts else None

    with suppress(TookTooLong):
        context.waiting.until_done(poll, at_most=_LATE_SECONDS, every=10)
    return results[-1]
