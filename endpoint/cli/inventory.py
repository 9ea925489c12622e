"""Easel's resources in an account and region: since when they exist, and what they cost.

The search goes by name through every service that Easel uses, and then by tag for resources whose
names do not reveal them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from endpoint.aws.models import instance_types, is_asynchronous
from endpoint.catalogue import prices
from endpoint.cli.context import Context
from endpoint.core.leases import Scheduled
from endpoint.core.naming import APP, others_in, owner
from endpoint.core.problems import AccessDenied, translated

_ENDPOINT_LOGS = f"/aws/sagemaker/Endpoints/{APP}-"
_GATEWAY_LOGS = f"/aws/lambda/{APP}-"
_BUILD_LOGS = f"/aws/codebuild/{APP}-"
_WITHOUT_SCALING = {"Failed", "Deleting"}
_GUARDS_USE = "runs every five minutes, pay per use"
GATEWAY_KINDS = {"Lambda function", "REST API"}
REPOSITORY, PROJECT, BUILD, RULE = "image repository", "build project", "image build", "rule"
TRAINING, PIPELINE = "training job", "pipeline"
LEASE, GUARD = "lease", "guard"
OTHERS = "endpoint of others"


@dataclass(frozen=True)
class Resource:
    """A resource in AWS.

    Attributes:
        kind: endpoint, bucket, log group ...
        name: its name in AWS.
        deployment: the deployment it belongs to; empty if unknown.
        since: its creation date, if AWS reports one.
        usd_per_hour: its price; None if unknown.
        usd_so_far: an upper limit of its cost since its creation.
        remark: further details.
    """

    kind: str
    name: str
    deployment: str
    since: datetime | None = None
    usd_per_hour: float | None = 0.0
    usd_so_far: float | None = None
    remark: str = ""

    @property
    def costs(self) -> bool:
        """Whether it can cost money; true if its price is unknown."""
        return self.usd_per_hour is None or self.usd_per_hour > 0

    def to_dict(self) -> dict[str, Any]:
        """Return it for --json."""
        return {**vars(self), "costs": self.costs}

    def line(self) -> str:
        """Return it as one line of text."""
        parts = [f"{self.kind} {self.name}"]
        if self.since:
            parts.append(f"since {self.since:%Y-%m-%d %H:%M} UTC")
        if self.costs:
            parts.append(_price(self.usd_per_hour))
        if self.usd_so_far:
            parts.append(f"at most {self.usd_so_far:.2f} USD so far")
        return ", ".join([*parts, self.remark] if self.remark else parts)


def _price(usd_per_hour: float | None) -> str:
    # An hour of an alarm or of logs would round to zero.
    if usd_per_hour is not None and usd_per_hour < 0.001:
        return f"{usd_per_hour * prices.HOURS_PER_MONTH:.4f} USD per month"
    return prices.in_words(usd_per_hour)


@dataclass
class Inventory:
    """The resources of one deployment, or of all.

    Attributes:
        resources: the most expensive first.
        notes: what could not be searched.
        unscaled: the asynchronous endpoints without their scaling.
        others: endpoints that somebody else made, which Easel invokes and never ends.
    """

    resources: list[Resource] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unscaled: list[str] = field(default_factory=list)
    others: list[Resource] = field(default_factory=list)

    @property
    def usd_per_hour(self) -> float:
        """The sum of the known prices per hour."""
        return sum(resource.usd_per_hour or 0.0 for resource in self.resources)

    def scaling_advice(self) -> list[str]:
        """Return what to do about endpoints without their scaling, as lines of text."""
        return [
            f"{name} has lost its scaling: it costs money until it is deleted, or never wakes."
            f" `{repair_command(name)}` restores it."
            for name in self.unscaled
        ]


def scan(context: Context, deployment: str | None) -> Inventory:
    """Return the resources in the context's account and region.

    Args:
        context: the account and region to search.
        deployment: one deployment's resources, with those of unknown deployments; None for all.
    """
    without = unscaled(context, f"{APP}-")
    resources = [
        resource
        for resource in _by_name(context, without)
        if deployment is None or resource.deployment in {deployment, ""}
    ]
    inventory = Inventory(resources)
    names = {resource.name for resource in resources if resource.kind == "endpoint"}
    inventory.unscaled = [name for name in without if name in names]
    inventory.others = list(of_others(context, deployment))
    _add_tagged(context, deployment, inventory)
    inventory.resources.sort(key=lambda resource: -(resource.usd_per_hour or 0.0))
    return inventory


def of_others(context: Context, deployment: str | None) -> Iterator[Resource]:
    """Yield the endpoints of others that gateways are in front of; arguments as for `scan`."""
    for stack in context.stacks.every():
        name = owner(stack["StackName"])
        if not name or deployment not in {None, name}:
            continue
        for arn in others_in(_parameters(stack)):
            yield _of_others(context, name, arn.rpartition("/")[2])


def _of_others(context: Context, deployment: str, name: str) -> Resource:
    description = context.endpoints.find(name)
    if description is None:
        return Resource(OTHERS, name, deployment, remark="does not exist any more")
    resource = _endpoint(context, name, deployment, description)
    return replace(
        resource, kind=OTHERS, remark=f"{resource.remark}; somebody else's, Easel does not end it"
    )


def unscaled(context: Context, prefix: str) -> list[str]:
    """Return the asynchronous endpoints with this prefix that do not scale as they should.

    A script that was killed can leave one: it costs money for as long as it exists, or never wakes.
    """
    found = {name: context.endpoints.find(name) for name in context.endpoints.names(prefix)}
    configs = {
        name: description["EndpointConfigName"]
        for name, description in found.items()
        if name.startswith(prefix) and description and can_scale(description)
    }
    if not configs:
        return []
    limits = context.scaling.limits(prefix)
    wanted = {name: context.models.most_instances(config) for name, config in configs.items()}
    return [name for name, most in wanted.items() if most and limits.get(name) != most]


def can_scale(description: dict[str, Any]) -> bool:
    """Whether an endpoint is asynchronous, and is not about to disappear."""
    return is_asynchronous(description) and description["EndpointStatus"] not in _WITHOUT_SCALING


def repair_command(endpoint: str) -> str:
    """Return the command that gives an endpoint its scaling back."""
    deployment = owner(endpoint)
    model = endpoint.removeprefix(f"{APP}-{deployment}-")
    return f"python -m endpoint start --name {deployment} --model {model}"


def _by_name(context: Context, without_scaling: Collection[str]) -> Iterator[Resource]:
    yield from _endpoints(context, without_scaling)
    yield from _leases(context)
    yield from _scaling(context)
    yield from _models(context)
    yield from _gateway(context)
    yield from _images(context)
    yield from _training(context)
    yield from _logs(context)
    yield from _stacks(context)
    yield from _buckets(context)


def _endpoints(context: Context, without_scaling: Collection[str]) -> Iterator[Resource]:
    for name in context.endpoints.names(f"{APP}-"):
        deployment = owner(name)
        # It can disappear between the two calls.
        if deployment and (description := context.endpoints.find(name)):
            resource = _endpoint(context, name, deployment, description)
            remark = f"{resource.remark}, WITHOUT ITS SCALING"
            yield replace(resource, remark=remark) if name in without_scaling else resource


def _endpoint(
    context: Context, name: str, deployment: str, description: dict[str, Any]
) -> Resource:
    since, status = description["CreationTime"], description["EndpointStatus"]
    if status == "Failed":
        # A failed endpoint has no instance.
        remark = f"failed: {description.get('FailureReason', '')}"
        return Resource("endpoint", name, deployment, since, 0.0, None, remark)
    config = context.models.find_config(description["EndpointConfigName"]) or {}
    per_hour, count, types = price_of(description, config)
    hours = max((context.clock.now() - since).total_seconds() / 3600, 0)
    return Resource(
        "endpoint",
        name,
        deployment,
        since,
        per_hour,
        None if per_hour is None else round(per_hour * hours, 2),
        f"{status}, {count} x {types}" + (", asynchronous" if is_asynchronous(config) else ""),
    )


def price_of(description: dict[str, Any], config: dict[str, Any]) -> tuple[float | None, int, str]:
    """Return an endpoint's price per hour, its number of instances, and their types."""
    variants = description.get("ProductionVariants") or [{}]
    pools = variants[0].get("InstancePools") or []
    # SageMaker's API does not promise a count; every endpoint starts with one instance. One that
    # is being started is not current yet, and costs money soon.
    count = sum(
        max(
            int(variant.get("CurrentInstanceCount", 1)), int(variant.get("DesiredInstanceCount", 0))
        )
        for variant in variants
    )
    running = [pool for pool in pools if pool.get("CurrentInstanceCount")]
    if pools and sum(pool["CurrentInstanceCount"] for pool in running) == count:
        usd = [prices.dearest([pool["InstanceType"]]) for pool in running]
        names = " or ".join(pool["InstanceType"] for pool in running)
        if None not in usd:
            priced = zip(running, usd, strict=True)
            total = sum(pool["CurrentInstanceCount"] * (price or 0) for pool, price in priced)
            return total, count, names or "no instance"
    # AWS does not report which of the types runs, so the most expensive one is assumed.
    types = instance_types(config)
    dearest = prices.dearest(types)
    return None if dearest is None else dearest * count, count, " or ".join(types) or "unknown"


def _leases(context: Context) -> Iterator[Resource]:
    """Yield the schedules that end endpoints; they are free of charge."""
    for group in context.schedules.groups(f"{APP}-"):
        if deployment := owner(group):
            for name, schedule in context.schedules.of(group, f"{group}-"):
                remark = _lease_in_words(Scheduled.read(schedule))
                yield Resource(LEASE, name, deployment, remark=remark)


def _lease_in_words(scheduled: Scheduled) -> str:
    if scheduled.active:
        ends = f"{scheduled.ends:%Y-%m-%d %H:%M} UTC"
        return f"{scheduled.lease} of idleness; deletes its endpoint at {ends}, unless it is used"
    if scheduled.lease.hours is None:
        return "never: nothing ends its endpoint but `stop`, `delete` and a monthly cap"
    return f"{scheduled.lease} of idleness, once it is started"


def _scaling(context: Context) -> Iterator[Resource]:
    # Scaling is free, but a policy that remains can act on a new endpoint of the same name.
    for name in context.scaling.scaled(f"{APP}-"):
        yield Resource("scaling of", name, owner(name) or "")
    for name in context.scaling.alarms(f"{APP}-"):
        if deployment := owner(name):
            # CloudWatch charges 0.10 USD per alarm and month.
            price = 0.10 / prices.HOURS_PER_MONTH
            yield Resource("alarm", name, deployment, usd_per_hour=price)


def _models(context: Context) -> Iterator[Resource]:
    for item in context.models.configs(f"{APP}-"):
        name = item["EndpointConfigName"]
        if deployment := owner(name):
            yield Resource("endpoint configuration", name, deployment, item["CreationTime"])
    for item in context.models.models(f"{APP}-"):
        if deployment := owner(item["ModelName"]):
            yield Resource("model", item["ModelName"], deployment, item["CreationTime"])


def _gateway(context: Context) -> Iterator[Resource]:
    for name in context.gateway.functions(f"{APP}-"):
        if deployment := owner(name):
            guard = name == f"{APP}-{deployment}-guard"
            kind, remark = (GUARD, _GUARDS_USE) if guard else ("Lambda function", "pay per use")
            yield Resource(kind, name, deployment, remark=remark)
    # All APIs are called `easel`; only the function behind one has the deployment's name. Another
    # account's or region's function can have it, too.
    account = context.account
    here = f"arn:{account.partition}:lambda:{account.region}:{account.id}:function:"
    for api, function in context.gateway.apis().items():
        deployment = owner(function.removeprefix(here)) or ""
        yield Resource("REST API", api, deployment, remark="pay per use")


def _images(context: Context) -> Iterator[Resource]:
    for repository in context.registry.repositories(f"{APP}-"):
        if deployment := owner(repository.name):
            usd = prices.images_per_month(repository.size) / prices.HOURS_PER_MONTH
            count = "1 image" if repository.images == 1 else f"{repository.images} images"
            # Layers that images share are counted for each, and stored once.
            remark = f"{count}, at most {repository.size / 1e9:.2f} GB"
            since = repository.since
            yield Resource(REPOSITORY, repository.name, deployment, since, usd, None, remark)
    for project in context.builds.projects(f"{APP}-"):
        if deployment := owner(project):
            yield Resource(PROJECT, project, deployment, remark="pay per build")
            for build in context.builds.running(project):
                seconds = build.seconds(context.clock.now())
                yield Resource(
                    BUILD,
                    build.id,
                    deployment,
                    build.since,
                    prices.build_per_hour(),
                    prices.build(seconds),
                    "runs; ends by itself after an hour at the latest",
                )
    for rule in context.builds.rules(f"{APP}-"):
        if deployment := owner(rule):
            yield Resource(RULE, rule, deployment)


def _training(context: Context) -> Iterator[Resource]:
    """Yield the training jobs that run, and the pipelines that start others."""
    for job in context.training.running(f"{APP}-"):
        name = job["TrainingJobName"]
        deployment = owner(name)
        description = context.training.find(name) if deployment else None
        if deployment and description:
            yield _training_job(context, name, deployment, description)
    for pipeline in context.training.pipelines(f"{APP}-"):
        if deployment := owner(pipeline):
            yield Resource(PIPELINE, pipeline, deployment, remark="pay per training job")


def _training_job(
    context: Context, name: str, deployment: str, description: dict[str, Any]
) -> Resource:
    since, resources = description["CreationTime"], description["ResourceConfig"]
    usd = prices.dearest([resources["InstanceType"]])
    limit = description["StoppingCondition"].get("MaxRuntimeInSeconds", 0)
    hours = min(max((context.clock.now() - since).total_seconds(), 0), limit) / 3600
    spot = ", spot" if description.get("EnableManagedSpotTraining") else ""
    return Resource(
        TRAINING,
        name,
        deployment,
        since,
        usd,
        None if usd is None else round(usd * hours, 2),
        f"{description['TrainingJobStatus']}, {resources['InstanceType']}{spot};"
        f" ends by itself after {limit // 60} minutes at the latest",
    )


def _logs(context: Context) -> Iterator[Resource]:
    for prefix in (_ENDPOINT_LOGS, _GATEWAY_LOGS, _BUILD_LOGS):
        for group, size in context.logs.sizes(prefix).items():
            if deployment := owner(group.rpartition("/")[2]):
                usd = prices.logs_per_month(size) / prices.HOURS_PER_MONTH
                yield Resource("log group", group, deployment, usd_per_hour=usd)


def _stacks(context: Context) -> Iterator[Resource]:
    for stack in context.stacks.every():
        name = stack["StackName"]
        if deployment := owner(name):
            status = stack["StackStatus"].lower().replace("_", " ")
            usd = _network_price(stack)
            yield Resource("stack", name, deployment, stack["CreationTime"], usd, remark=status)


def _parameters(stack: dict[str, Any]) -> dict[str, str]:
    return {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])}


def _network_price(stack: dict[str, Any]) -> float:
    """Return the price per hour of the interface endpoints in a stack's private network."""
    parameters = _parameters(stack)
    if parameters.get("InterfaceEndpoints") != "yes":
        return 0.0
    return prices.network_per_hour("endpoints", int(parameters.get("ZoneCount", 2)))


def _buckets(context: Context) -> Iterator[Resource]:
    # By the whole name: other programs can also begin a bucket's name with `easel-`.
    account = context.account
    pattern = re.compile(rf"{APP}-([a-z0-9]+)-{account.id}-{account.region}(?:-src)?")
    for name, since in context.buckets():
        if match := pattern.fullmatch(name):
            yield _bucket(context, name, match[1], since)


def _bucket(context: Context, name: str, deployment: str, since: datetime) -> Resource:
    bucket = context.bucket_called(name)
    size = bucket.size_of_versions() if name.endswith("-src") else sum(bucket.sizes().values())
    unfinished = len(bucket.uploads())
    remark = f"{size / 1e9:.2f} GB"
    if unfinished:
        remark += f" and {unfinished} unfinished uploads, whose parts cost money as well"
    # The size of unfinished uploads would take one call for each, so the price is unknown then.
    usd = None if unfinished else prices.storage_per_month(size) / prices.HOURS_PER_MONTH
    return Resource("bucket", name, deployment, since, usd, None, remark)


# Kinds that the search by name covers completely. If only the tag index lists such a resource, it
# is deleted, and the index is behind.
_FOUND_BY_NAME = re.compile(
    r"arn:[^:]+:(s3|lambda|logs|cloudformation|cloudwatch|apigateway|iam|ecr|codebuild|events"
    r"|scheduler)"
    r":|arn:[^:]+:sagemaker:[^:]*:[^:]*:"
    # A training job that has ended costs nothing, and SageMaker keeps it.
    r"(endpoint|endpoint-config|model|pipeline|training-job)/"
)


def _add_tagged(context: Context, deployment: str | None, inventory: Inventory) -> None:
    arns = context.tagged.arns(deployment)
    if arns is None:
        inventory.notes.append(
            "Tags could not be read (tag:GetResources): the search was by name only."
        )
        return
    if any(resource.kind == "stack" for resource in inventory.resources):
        arns = [arn for arn in arns if ":ec2:" not in arn]  # the stack's own network
    for arn in arns:
        if not _FOUND_BY_NAME.search(arn) and not _is_ghost(context, arn):
            tagged = Resource("tagged", arn, deployment or "", None, None, None, "found by its tag")
            inventory.resources.append(tagged)


def _is_ghost(context: Context, arn: str) -> bool:
    """Whether a resource is gone that the tag index still lists, as it does for some minutes."""
    service = arn.split(":")[2]
    try:
        with translated():
            if service == "ec2":
                return not context.network.has(arn.rpartition("/")[2])
            if service == "budgets":
                return not context.tagged.has_budget(context.account.id, arn.rpartition("/")[2])
    except AccessDenied:
        return False
    return False
