"""What of Easel's exists in an account and region, since when, and what it costs.

Looks by name at every service that Easel uses, and then by tag for what no name led to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from endpoint.aws.models import instance_types
from endpoint.catalogue import prices
from endpoint.cli.context import Context
from endpoint.core.naming import APP, owner

_ENDPOINT_LOGS = f"/aws/sagemaker/Endpoints/{APP}-"
_GATEWAY_LOGS = f"/aws/lambda/{APP}-"
GATEWAY_KINDS = {"Lambda function", "REST API"}


@dataclass(frozen=True)
class Resource:
    """Something that exists.

    Attributes:
        kind: endpoint, bucket, log group ...
        name: its name in AWS.
        deployment: the deployment it belongs to; empty where that cannot be told.
        since: when it was made, where AWS tells.
        usd_per_hour: its price; None where it is unknown.
        usd_so_far: what it has cost at most since then.
        remark: what else there is to say.
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
        """Whether it can cost money."""
        return self.usd_per_hour is None or self.usd_per_hour > 0

    def to_dict(self) -> dict[str, Any]:
        """Return it for --json."""
        return {**vars(self), "costs": self.costs}

    def line(self) -> str:
        """Return it for a person."""
        parts = [f"{self.kind} {self.name}"]
        if self.since:
            parts.append(f"since {self.since:%Y-%m-%d %H:%M} UTC")
        if self.costs:
            parts.append(_price(self.usd_per_hour))
        if self.usd_so_far:
            parts.append(f"at most {self.usd_so_far:.2f} USD so far")
        return ", ".join([*parts, self.remark] if self.remark else parts)


def _price(usd_per_hour: float | None) -> str:
    if usd_per_hour is not None and usd_per_hour < 0.001:
        return f"{usd_per_hour * prices.HOURS_PER_MONTH:.4f} USD per month"
    return prices.in_words(usd_per_hour)


@dataclass
class Inventory:
    """Everything found.

    Attributes:
        resources: what exists, the dearest first.
        notes: what could not be looked at.
    """

    resources: list[Resource] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def usd_per_hour(self) -> float:
        """What all of it costs per hour, as far as that is known."""
        return sum(resource.usd_per_hour or 0.0 for resource in self.resources)


def scan(context: Context, deployment: str | None) -> Inventory:
    """Look everywhere.

    Args:
        context: whose account and region are looked at.
        deployment: only this one's resources; None for every deployment's.
    """
    found = [
        resource
        for resource in _everything(context)
        if deployment is None or resource.deployment in {deployment, ""}
    ]
    inventory = Inventory(found)
    _add_tagged(context, deployment, inventory)
    inventory.resources.sort(key=lambda resource: -(resource.usd_per_hour or 0.0))
    return inventory


def _everything(context: Context) -> Iterator[Resource]:
    yield from _endpoints(context)
    yield from _scaling(context)
    yield from _models(context)
    yield from _gateway(context)
    yield from _logs(context)
    yield from _stacks(context)
    yield from _buckets(context)


def _endpoints(context: Context) -> Iterator[Resource]:
    for name in context.endpoints.names(f"{APP}-"):
        if (of := owner(name)) and (found := context.endpoints.find(name)):
            yield _endpoint(context, name, of, found)


def _endpoint(context: Context, name: str, of: str, found: dict[str, Any]) -> Resource:
    config = context.models.find_config(found["EndpointConfigName"]) or {}
    per_hour, count, remark = _price_of(found, config)
    since = found["CreationTime"]
    hours = max((context.clock.now() - since).total_seconds() / 3600, 0)
    status = found["EndpointStatus"]
    if status == "Failed":
        reason = found.get("FailureReason", "")
        return Resource("endpoint", name, of, since, 0.0, None, f"failed: {reason}")
    return Resource(
        "endpoint",
        name,
        of,
        since,
        per_hour,
        None if per_hour is None else round(per_hour * hours, 2),
        f"{status}, {count} x {remark}" + (", asynchronous" if _is_async(config) else ""),
    )


def _is_async(config: dict[str, Any]) -> bool:
    return bool(config.get("AsyncInferenceConfig"))


def _price_of(found: dict[str, Any], config: dict[str, Any]) -> tuple[float | None, int, str]:
    """Return an endpoint's price per hour, its instances, and their types."""
    variants = found.get("ProductionVariants") or [{}]
    pools = variants[0].get("InstancePools") or []
    count = sum(int(variant.get("CurrentInstanceCount", 1)) for variant in variants)
    types = instance_types(config)
    if pools and all("CurrentInstanceCount" in pool for pool in pools):
        running = [pool for pool in pools if pool["CurrentInstanceCount"]]
        known = [prices.dearest([pool["InstanceType"]]) for pool in running]
        words = " or ".join(pool["InstanceType"] for pool in running)
        if None not in known:
            each = zip(running, known, strict=True)
            usd = sum(pool["CurrentInstanceCount"] * (price or 0) for pool, price in each)
            return usd, count, words or "no instance"
    dearest = prices.dearest(types)
    # Which of the types runs is not told, so it is counted as the dearest.
    return None if dearest is None else dearest * count, count, " or ".join(types) or "unknown"


def _scaling(context: Context) -> Iterator[Resource]:
    for name in context.scaling.scaled(f"{APP}-"):
        yield Resource("scaling of", name, owner(name) or "")
    for name in context.scaling.alarms(f"{APP}-"):
        if of := owner(name):
            yield Resource("alarm", name, of, usd_per_hour=0.10 / prices.HOURS_PER_MONTH)


def _models(context: Context) -> Iterator[Resource]:
    for item in context.models.configs(f"{APP}-"):
        if of := owner(item["EndpointConfigName"]):
            name = item["EndpointConfigName"]
            yield Resource("endpoint configuration", name, of, item["CreationTime"])
    for item in context.models.models(f"{APP}-"):
        if of := owner(item["ModelName"]):
            yield Resource("model", item["ModelName"], of, item["CreationTime"])


def _gateway(context: Context) -> Iterator[Resource]:
    for name in context.gateway.functions(f"{APP}-"):
        if of := owner(name):
            yield Resource("Lambda function", name, of, remark="costs by use only")
    for api, function in context.gateway.apis().items():
        yield Resource("REST API", api, owner(function) or "", remark="costs by use only")


def _logs(context: Context) -> Iterator[Resource]:
    for prefix in (_ENDPOINT_LOGS, _GATEWAY_LOGS):
        for group, size in context.logs.sizes(prefix).items():
            if of := owner(group.rpartition("/")[2]):
                usd = prices.logs_per_month(size) / prices.HOURS_PER_MONTH
                yield Resource("log group", group, of, usd_per_hour=usd)


def _stacks(context: Context) -> Iterator[Resource]:
    for stack in context.stacks.every():
        if of := owner(stack["StackName"]):
            status = stack["StackStatus"].lower().replace("_", " ")
            yield Resource("stack", stack["StackName"], of, stack["CreationTime"], remark=status)


def _buckets(context: Context) -> Iterator[Resource]:
    place = re.compile(rf"{APP}-([a-z0-9]+)-{context.account.id}-{context.account.region}")
    for name, since in context.buckets():
        if found := place.fullmatch(name):
            yield _bucket(context, name, found[1], since)


def _bucket(context: Context, name: str, of: str, since: datetime) -> Resource:
    bucket = context.bucket_called(name)
    size = sum(bucket.sizes().values())
    unfinished = len(bucket.uploads())
    remark = f"{size / 1e9:.2f} GB"
    if unfinished:
        remark += f" and {unfinished} unfinished uploads, whose parts cost as well"
    usd = prices.storage_per_month(size) / prices.HOURS_PER_MONTH
    return Resource("bucket", name, of, since, None if unfinished else usd, None, remark)


# What was looked for by name already: where only the tag index still knows such a name, it is gone
# and the index lags behind.
_LOOKED_AT = re.compile(
    r"arn:[^:]+:(s3|lambda|logs|cloudformation|cloudwatch|apigateway|iam)"
    r":|arn:[^:]+:sagemaker:[^:]*:[^:]*:(endpoint|endpoint-config|model)/"
)


def _add_tagged(context: Context, deployment: str | None, inventory: Inventory) -> None:
    arns = context.tagged.arns(deployment)
    if arns is None:
        inventory.notes.append("Tags could not be read (tag:GetResources): looked by name only.")
        return
    if any(resource.kind == "stack" for resource in inventory.resources):
        arns = [arn for arn in arns if ":ec2:" not in arn]  # the stack's own network
    for arn in arns:
        if not _LOOKED_AT.search(arn):
            found = Resource("tagged", arn, deployment or "", None, None, None, "found by its tag")
            inventory.resources.append(found)
