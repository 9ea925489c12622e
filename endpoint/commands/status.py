"""Show Easel's resources in the account and region: since when, their cost, and how to end it.

Shows all deployments unless --name is given, so that none is overlooked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from endpoint.catalogue import prices
from endpoint.cli import inventory, script
from endpoint.cli.context import Context
from endpoint.cli.inventory import Inventory, Resource
from endpoint.cli.options import CommonOptions, common_parser
from endpoint.cli.script import Result


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return common_parser("status", "Show Easel's resources and what they cost.", name=None)


def status(context: Context, options: CommonOptions) -> Result:
    """List the resources, of all deployments by default."""
    scanned = inventory.scan(context, options.name)
    data = {
        "account": context.account.id,
        "region": context.account.region,
        # The key is part of the output format.
        "things": [resource.to_dict() for resource in scanned.resources],
        "usd_per_hour": scanned.usd_per_hour,
        "notes": scanned.notes,
        "without_scaling": scanned.unscaled,
    }
    return Result(data, _lines(context, scanned))


def _lines(context: Context, scanned: Inventory) -> list[str]:
    place = f"account {context.account.id}, {context.account.region}"
    if not scanned.resources:
        return [f"Easel has no resources in {place}; nothing costs anything.", *scanned.notes]
    lines = [f"Easel in {place}:"]
    for deployment in sorted({resource.deployment for resource in scanned.resources}):
        lines.append(f"\n{deployment or 'no deployment'}")
        resources = [item for item in scanned.resources if item.deployment == deployment]
        lines += [f"  {resource.line()}" for resource in resources]
        lines += [f"  {advice}" for advice in _advice(deployment, resources)]
    lines.append(f"\nTotal: {prices.in_words(scanned.usd_per_hour)}. {prices.provenance()}")
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
