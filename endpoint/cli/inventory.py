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
from endpoint.cli.context import Life
from endpoint.core.naming import APP, owner

_ENDPOINT_LOGS = f"/aws/sagemaker/Endpoints/{APP}-"
_GATEWAY_LOGS = f"/aws/lambda/{APP}-"
GATEWAY_KINDS = {"Lambda function", "REST API"}


@dataclass(frozen=True)
class Thing:
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
        things: what exists, the dearest first.
        notes: what could not be looked at.
    """

    things: list[Thing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def usd_per_hour(self) -> float:
        """What all of it costs per hour, as far as that is known."""
        return sum(thing.usd_per_hour or 0.0 for thing in self.things)


def take(life: Life, deployment: str | None) -> Inventory:
    """Look everywhere.

    Args:
        life: whose account and region are looked at.
        deployment: only this one's things; None for every deployment's.
    """
    found = [
        thing
        for thing in _everything(life)
        if deployment is None or thing.deployment in {deployment, ""}
    ]
    inventory = Inventory(found)
    _add_tagged(life, deployment, inventory)
    inventory.things.sort(key=lambda thing: -(thing.usd_per_hour or 0.0))
    return inventory


def _everything(life: Life) -> Iterator[Thing]:
    yield from _endpoints(life)
    yield from _scaling(life)
    yield from _models(life)
    yield from _gateway(life)
    yield from _logs(life)
    yield from _stacks(life)
    yield from _buckets(life)


def _endpoints(life: Life) -> Iterator[Thing]:
    for name in life.endpoints.names(f"{APP}-"):
        if (of := owner(name)) and (found := life.endpoints.find(name)):
            yield _endpoint(life, name, of, found)


def _endpoint(life: Life, name: str, of: str, found: dict[str, Any]) -> Thing:
    config = life.models.find_config(found["EndpointConfigName"]) or {}
    per_hour, count, remark = _price_of(found, config)
    since = found["CreationTime"]
    hours = max((life.clock.now() - since).total_seconds() / 3600, 0)
    status = found["EndpointStatus"]
    if status == "Failed":
        reason = found.get("FailureReason", "")
        return Thing("endpoint", name, of, since, 0.0, None, f"failed: {reason}")
    return Thing(
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


def _scaling(life: Life) -> Iterator[Thing]:
    for name in life.scaling.scaled(f"{APP}-"):
        yield Thing("scaling of", name, owner(name) or "")
    for name in life.scaling.alarms(f"{APP}-"):
        if of := owner(name):
            yield Thing("alarm", name, of, usd_per_hour=0.10 / prices.HOURS_PER_MONTH)


def _models(life: Life) -> Iterator[Thing]:
    for item in life.models.configs(f"{APP}-"):
        if of := owner(item["EndpointConfigName"]):
            name = item["EndpointConfigName"]
            yield Thing("endpoint configuration", name, of, item["CreationTime"])
    for item in life.models.models(f"{APP}-"):
        if of := owner(item["ModelName"]):
            yield Thing("model", item["ModelName"], of, item["CreationTime"])


def _gateway(life: Life) -> Iterator[Thing]:
    for name in life.gateway.functions(f"{APP}-"):
        if of := owner(name):
            yield Thing("Lambda function", name, of, remark="costs by use only")
    for api, function in life.gateway.apis().items():
        yield Thing("REST API", api, owner(function) or "", remark="costs by use only")


def _logs(life: Life) -> Iterator[Thing]:
    for prefix in (_ENDPOINT_LOGS, _GATEWAY_LOGS):
        for group, size in life.logs.sizes(prefix).items():
            if of := owner(group.rpartition("/")[2]):
                usd = prices.logs_per_month(size) / prices.HOURS_PER_MONTH
                yield Thing("log group", group, of, usd_per_hour=usd)


def _stacks(life: Life) -> Iterator[Thing]:
    for stack in life.stacks.every():
        if of := owner(stack["StackName"]):
            status = stack["StackStatus"].lower().replace("_", " ")
            yield Thing("stack", stack["StackName"], of, stack["CreationTime"], remark=status)


def _buckets(life: Life) -> Iterator[Thing]:
    place = re.compile(rf"{APP}-([a-z0-9]+)-{life.account.id}-{life.account.region}")
    for name, since in life.buckets():
        if found := place.fullmatch(name):
            yield _bucket(life, name, found[1], since)


def _bucket(life: Life, name: str, of: str, since: datetime) -> Thing:
    bucket = life.bucket_called(name)
    size = sum(bucket.sizes().values())
    unfinished = len(bucket.uploads())
    remark = f"{size / 1e9:.2f} GB"
    if unfinished:
        remark += f" and {unfinished} unfinished uploads, whose parts cost as well"
    usd = prices.storage_per_month(size) / prices.HOURS_PER_MONTH
    return Thing("bucket", name, of, since, None if unfinished else usd, None, remark)


# What was looked for by name already: where only the tag index still knows such a thing, it is gone
# and the index lags behind.
_LOOKED_AT = re.compile(
    r"arn:[^:]+:(s3|lambda|logs|cloudformation|cloudwatch|apigateway|iam)"
    r":|arn:[^:]+:sagemaker:[^:]*:[^:]*:(endpoint|endpoint-config|model)/"
)


def _add_tagged(life: Life, deployment: str | None, inventory: Inventory) -> None:
    arns = life.tagged.arns(deployment)
    if arns is None:
        inventory.notes.append("Tags could not be read (tag:GetResources): looked by name only.")
        return
    if any(thing.kind == "stack" for thing in inventory.things):
        arns = [arn for arn in arns if ":ec2:" not in arn]  # the stack's own network
    for arn in arns:
        if not _LOOKED_AT.search(arn):
            found = Thing("tagged", arn, deployment or "", None, None, None, "found by its tag")
            inventory.things.append(found)
