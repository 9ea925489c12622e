"""Show Easel's resources in the account and region: since when, their cost, and how to end it.

Shows all deployments unless --name is given, so that none is overlooked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from endpoint.catalogue import prices
from endpoint.cli import inventory, script
from endpoint.cli.context import Context
from endpoint.cli.inventory import Inventory, Resource
from endpoint.cli.options import CommonOptions, common_parser
from endpoint.cli.script import Result
from endpoint.provision.serving.lease import counted_in


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return common_parser("status", "Show Easel's resources and what they cost.", name=None)


def status(context: Context, options: CommonOptions) -> Result:
    """List the resources, of all deployments by default."""
    scanned = inventory.scan(context, options.name)
    spent = _spending(context, scanned.resources)
    data = {
        "account": context.account.id,
        "region": context.account.region,
        # The key is part of the output format.
        "things": [resource.to_dict() for resource in scanned.resources],
        "usd_per_hour": scanned.usd_per_hour,
        "notes": scanned.notes,
        "without_scaling": scanned.unscaled,
        "spent": spent,
        "endpoints_of_others": [resource.to_dict() for resource in scanned.others],
    }
    return Result(data, _lines(context, scanned, spent))


def _spending(context: Context, resources: Sequence[Resource]) -> dict[str, dict[str, Any]]:
    """Return what the guards have counted this month, by deployment."""
    # Each is in the bucket of its deployment.
    buckets = {each.deployment: each.name for each in resources if each.kind == "bucket"
               and not each.name.endswith("-src")}  # fmt: skip
    found = {name: counted_in(context, bucket) for name, bucket in buckets.items() if name}
    return {name: counted for name, counted in found.items() if counted}


def _spent(counted: dict[str, Any] | None) -> list[str]:
    if counted is None:
        return []
    limit = f" of {counted['cap_usd']:g} USD, the monthly cap" if counted["cap_usd"] else " USD"
    when = datetime.fromtimestamp(counted["updated"], UTC)
    return [
        f"spent in {counted['month']}: {counted['usd']:.2f}{limit} (GPUs by the hour, and pictures;"
        f" counted at {when:%Y-%m-%d %H:%M} UTC)"
    ]


def _lines(context: Context, scanned: Inventory, spent: dict[str, dict[str, Any]]) -> list[str]:
    place = f"account {context.account.id}, {context.account.region}"
    if not scanned.resources:
        return [f"Easel has no resources in {place}; nothing costs anything.", *scanned.notes]
    lines = [f"Easel in {place}:"]
    for deployment in sorted({resource.deployment for resource in scanned.resources}):
        lines.append(f"\n{deployment or 'no deployment'}")
        resources = [item for item in scanned.resources if item.deployment == deployment]
        others = [item for item in scanned.others if item.deployment == deployment]
        lines += [f"  {resource.line()}" for resource in (*resources, *others)]
        lines += [f"  {line}" for line in _spent(spent.get(deployment))]
        lines += [f"  {advice}" for advice in _advice(deployment, resources)]
    lines.append(f"\nTotal: {prices.in_words(scanned.usd_per_hour)}. {prices.provenance()}")
    if usd := sum(item.usd_per_hour or 0.0 for item in scanned.others):
        lines.append(f"Not counted, because it is not Easel's to end: {prices.in_words(usd)}.")
    return [*lines, *scanned.scaling_advice(), *scanned.notes]


def _advice(deployment: str, resources: list[Resource]) -> list[str]:
    """Return the commands that end a deployment's costs."""
    if not deployment:
        return []
    running = any(resource.kind == "endpoint" and resource.costs for resource in resources)
    stop = f"python -m endpoint stop --name {deployment}"
    advice = [f"to stop paying by the hour: {stop}"] if running else []
    gateway = any(resource.kind in inventory.GATEWAY_KINDS for resource in resources)
    command = "./setup.sh destroy" if gateway else "python -m endpoint delete"
    return [*advice, f"to remove everything: {command} --name {deployment}"]


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), CommonOptions, status, argv, **overrides)
