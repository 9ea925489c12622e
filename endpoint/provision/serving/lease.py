"""The lease of an endpoint: set before the endpoint is created, and the cap that goes before it.

The schedule that ends an endpoint exists before SageMaker hears of the endpoint, whatever fails
afterwards. `stop` keeps it, switched off, so that `start` finds the length and the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from endpoint.aws.models import instance_types, is_asynchronous
from endpoint.catalogue import prices
from endpoint.catalogue.models import Model
from endpoint.cli.context import Context
from endpoint.cli.options import EndpointOptions
from endpoint.core.leases import Lease, Scheduled
from endpoint.core.problems import ScriptError, code_of

# What the guard multiplies with the hours.
PRICE_TAG = "easel:usd-per-hour"


def price_tags(*configs: dict[str, Any]) -> list[dict[str, str]]:
    """Return the tag of an endpoint that says its highest price; none if that is unknown."""
    price = prices.dearest(name for config in configs for name in instance_types(config))
    return [] if price is None else [{"Key": PRICE_TAG, "Value": f"{price:g}"}]


def ensure(
    context: Context,
    endpoint: str,
    config: str,
    lease: Lease | None,
    definition: dict[str, Any] | None = None,
) -> None:
    """Let an endpoint with this configuration end after its lease, counted from now.

    Args:
        context: the deployment.
        endpoint: its name.
        config: the name of its endpoint configuration.
        lease: None for the one that it has, or of the default length.
        definition: of the configuration; None to ask SageMaker.

    Raises:
        ScriptError: if the monthly cap is reached, or the stack is of an older version.
    """
    definition = definition or context.models.find_config(config) or {}
    require_room(context, definition)
    if is_asynchronous(definition):  # it scales to zero by itself
        return
    before = find(context, endpoint)
    lease = lease or (before.lease if before else Lease())
    price = prices.dearest(instance_types(definition))
    put(
        context,
        endpoint,
        Scheduled(
            lease,
            config,
            price,
            lease.end(context.clock.now()),
            active=lease.hours is not None,
        ),
        exists=before is not None,
    )
    if lease.hours is None:
        month = prices.in_words(price)
        context.console.say(f"  WITHOUT A LEASE: {endpoint} costs {month} until it is deleted.")


def in_words(context: Context, endpoint: str, lease: Lease | None) -> str:
    """Return what will end an endpoint, in one sentence."""
    before = find(context, endpoint)
    lease = lease or (before.lease if before else Lease())
    if lease.hours is None:
        return "Without a lease: nothing ends it but `stop`, `delete` and a monthly cap."
    return f"Its lease: it is deleted when nobody has used it for {lease}; `start` restores it."


def renew(context: Context, endpoint: str) -> None:
    """Count the lease of an endpoint from now on, if it has one that ends."""
    before = find(context, endpoint)
    if before is not None and before.active:
        ends = before.lease.end(context.clock.now())
        put(context, endpoint, replace(before, ends=ends), exists=True)


def suspend(context: Context, endpoint: str) -> None:
    """Switch the schedule of a deleted endpoint off: nobody but `start` creates it again."""
    before = find(context, endpoint)
    if before is not None and before.active:
        put(context, endpoint, replace(before, active=False), exists=True)


def find(context: Context, endpoint: str) -> Scheduled | None:
    """Return what an endpoint's schedule says; None if there is none."""
    found = context.schedules.find(context.deployment.lease_group, endpoint)
    return Scheduled.read(found) if found else None


def put(context: Context, endpoint: str, scheduled: Scheduled, *, exists: bool) -> None:
    """Create or replace an endpoint's schedule.

    Raises:
        ScriptError: if the stack is of an older version.
    """
    deployment = context.deployment
    definition = scheduled.definition(endpoint, deployment.lease_role, deployment.partition)
    try:
        context.schedules.put(deployment.lease_group, endpoint, definition, exists=exists)
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        raise ScriptError(
            f"The stack {deployment.stack} has no schedules yet: it is of an older version.",
            "`python -m endpoint create` (or `./setup.sh deploy`) updates it, and keeps all else.",
        ) from error


def spending(context: Context) -> dict[str, Any] | None:
    """Return what the guard has counted this month; None before it has."""
    return counted_in(context, context.deployment.bucket)


def counted_in(context: Context, bucket: str) -> dict[str, Any] | None:
    """Return what a guard has counted this month in a deployment's bucket; None before it has."""
    month = f"{context.clock.now():%Y-%m}"
    text = context.bucket_called(bucket).get(f"spend/{month}.json")
    counted: dict[str, Any] | None = None if text is None else json.loads(text)
    return counted


def worst_month(
    context: Context, options: EndpointOptions, chosen: Sequence[tuple[Model, Sequence[str]]]
) -> list[str]:
    """Return what the GPUs of a deployment cost at most in a month, in lines of text.

    Args:
        context: the deployment.
        options: of `create` or `deploy`.
        chosen: the models that are created, with their instance types.
    """
    per_hour = {}
    for model, types in chosen:
        count = options.most_instances if model.asynchronous else 1
        name = context.deployment.endpoint(model.name)
        per_hour[name] = count * (prices.dearest(types) or 0.0)
    # Those that are here already.
    others = context.schedules.of(context.deployment.lease_group, f"{context.deployment.prefix}-")
    for name, schedule in others:
        per_hour.setdefault(name, Scheduled.read(schedule).usd_per_hour or 0.0)
    hour = sum(per_hour.values())
    month = hour * prices.HOURS_PER_MONTH
    limit = cap(context) if options.monthly_cap is None else options.monthly_cap
    if not limit:
        return [
            f"The worst month: {month:.0f} USD of GPUs, if they are used without a pause."
            " --monthly-cap USD ends them before that."
        ]
    return [
        f"The worst month: {min(limit + hour, month):.2f} USD of GPUs, the cap of {limit:g} USD"
        f" and at most one hour of what runs ({hour:.2f} USD). Without the cap: {month:.0f} USD."
    ]


def cap(context: Context) -> float:
    """Return the deployment's monthly cap in USD; 0 if there is none."""
    return float(context.stacks.parameters(context.deployment.stack).get("MonthlyCap", 0))


def require_room(context: Context, config: dict[str, Any]) -> None:
    """Refuse an endpoint that the guard would delete again, or could not count.

    Raises:
        ScriptError: if the cap is reached, or the price is unknown.
    """
    limit = cap(context)
    if not limit:
        return
    counted = spending(context) or {"usd": 0.0}
    if counted["usd"] >= limit:
        raise ScriptError(
            f"The monthly cap of {limit:g} USD is reached: {counted['usd']:.2f} USD are spent.",
            "Raise it with --monthly-cap of `create` or `deploy`, or wait until next month.",
        )
    types = instance_types(config)
    if types and prices.dearest(types) is None:
        raise ScriptError(
            f"The price of {' or '.join(types)} is unknown, so that no monthly cap can be kept.",
            "Choose another --instance-type, or pass --monthly-cap 0.",
        )
