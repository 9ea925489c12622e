"""Create a model's endpoint, or update it; `provision/serving/endpoint.py` has the steps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Run as a file, Python puts the file's own folder on the path, where `endpoint` cannot be found.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.catalogue import prices
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import EndpointOptions, add_endpoint_options, common_parser
from endpoint.cli.script import Result
from endpoint.provision.serving import endpoint


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("create", "Create a model's endpoint, or update it.")
    add_endpoint_options(parser)
    return parser


def create(context: Context, options: EndpointOptions) -> Result:
    """Create or update the endpoint; report its name and its price."""
    created = endpoint.create(context, options)
    price = prices.dearest(created.instance_types)
    data: dict[str, Any] = {
        "endpoint": created.name,
        "model": created.model.name,
        "asynchronous": created.model.asynchronous,
        "instance_types": list(created.instance_types),
        "usd_per_hour_at_most": price,
        "warm_up_seconds": created.warm_up_seconds,
    }
    lines = [
        f"{created.name} serves {created.model.title}.",
        f"It costs at most {prices.in_words(price)}.",
        "`python -m endpoint stop` ends that, and `python -m endpoint start` restores it.",
    ]
    if created.model.asynchronous:
        lines.append("It scales to zero instances about 15 minutes after its last picture.")
    return Result(data, lines)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), EndpointOptions, create, argv, **overrides)


if __name__ == "__main__":
    sys.exit(main())
