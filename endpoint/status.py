"""Show everything of Easel's in the account and region: since when, what it costs, what ends that.

Shows every deployment's resources unless --name is given, so that none is forgotten.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as `python endpoint/status.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.catalogue import prices
from endpoint.cli import inventory, script
from endpoint.cli.context import Context
from endpoint.cli.inventory import Inventory
from endpoint.cli.script import Result


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("status", "Show what there is of Easel, and what it costs.")
    parsed.set_defaults(name=None)
    return parsed


def status(context: Context, args: argparse.Namespace) -> Result:
    """Look at everything."""
    found = inventory.scan(context, args.name)
    data = {
        "account": context.account.id,
        "region": context.account.region,
        "things": [resource.to_dict() for resource in found.resources],
        "usd_per_hour": found.usd_per_hour,
        "notes": found.notes,
    }
    return Result(data, _lines(context, found))


def _lines(context: Context, found: Inventory) -> list[str]:
    where = f"account {context.account.id}, {context.account.region}"
    if not found.resources:
        return [f"Nothing of Easel's exists in {where}; nothing costs anything.", *found.notes]
    lines = [f"Easel in {where}:"]
    for deployment in sorted({resource.deployment for resource in found.resources}):
        lines.append(f"\n{deployment or 'of no deployment'}")
        resources = [resource for resource in found.resources if resource.deployment == deployment]
        lines += [f"  {resource.line()}" for resource in resources]
        lines += [f"  {advice}" for advice in _advice(deployment, resources)]
    lines.append(f"\nAll of it: {prices.in_words(found.usd_per_hour)}. {prices.provenance()}")
    return [*lines, *found.notes]


def _advice(deployment: str, resources: list[inventory.Resource]) -> list[str]:
    """Return what would end the costs."""
    if not deployment:
        return []
    running = any(resource.kind == "endpoint" and resource.costs for resource in resources)
    stop = f"python -m endpoint.stop --name {deployment}"
    advice = [f"to stop paying by the hour: {stop}"] if running else []
    gateway = any(resource.kind in inventory.GATEWAY_KINDS for resource in resources)
    command = "./setup.sh destroy" if gateway else "python -m endpoint.delete_endpoint"
    return [*advice, f"to remove everything: {command} --name {deployment}"]


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), status, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
