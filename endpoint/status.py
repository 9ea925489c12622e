"""Show everything of Easel's in the account and region: since when, what it costs, what ends that.

Shows every deployment's things unless --name is given, so that none is forgotten.
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
from endpoint.cli.context import Life
from endpoint.cli.inventory import Inventory
from endpoint.cli.script import Result


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("status", "Show what there is of Easel, and what it costs.")
    parsed.set_defaults(name=None)
    return parsed


def status(life: Life, args: argparse.Namespace) -> Result:
    """Look at everything."""
    found = inventory.take(life, args.name)
    data = {
        "account": life.account.id,
        "region": life.account.region,
        "things": [thing.to_dict() for thing in found.things],
        "usd_per_hour": found.usd_per_hour,
        "notes": found.notes,
    }
    return Result(data, _lines(life, found))


def _lines(life: Life, found: Inventory) -> list[str]:
    where = f"account {life.account.id}, {life.account.region}"
    if not found.things:
        return [f"Nothing of Easel's exists in {where}; nothing costs anything.", *found.notes]
    lines = [f"Easel in {where}:"]
    for deployment in sorted({thing.deployment for thing in found.things}):
        lines.append(f"\n{deployment or 'of no deployment'}")
        things = [thing for thing in found.things if thing.deployment == deployment]
        lines += [f"  {thing.line()}" for thing in things]
        lines += [f"  {advice}" for advice in _advice(deployment, things)]
    lines.append(f"\nAll of it: {prices.in_words(found.usd_per_hour)}. {prices.provenance()}")
    return [*lines, *found.notes]


def _advice(deployment: str, things: list[inventory.Thing]) -> list[str]:
    """Return what would end the costs."""
    if not deployment:
        return []
    running = any(thing.kind == "endpoint" and thing.costs for thing in things)
    stop = f"python -m endpoint.stop --name {deployment}"
    advice = [f"to stop paying by the hour: {stop}"] if running else []
    gateway = any(thing.kind in inventory.GATEWAY_KINDS for thing in things)
    command = "./setup.sh destroy" if gateway else "python -m endpoint.delete_endpoint"
    return [*advice, f"to remove everything: {command} --name {deployment}"]


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), status, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
