"""Check everything that could prevent a deployment, before anything is created or paid for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import EndpointOptions, add_endpoint_options, common_parser
from endpoint.cli.script import Result
from endpoint.provision import checks


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("doctor", "Check what would prevent a deployment.")
    add_endpoint_options(parser)
    return parser


def doctor(context: Context, options: EndpointOptions) -> Result:
    """Report all checks; the result is good unless one would prevent a deployment."""
    results = checks.examine(context, options)
    bad = [check for check in results if check.state == "bad"]
    lines = [line for check in results for line in check.lines()]
    lines.append(f"{len(bad)} of these prevent a deployment." if bad else "Ready to deploy.")
    return Result({"checks": [asdict(check) for check in results]}, lines, good=not bad)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), EndpointOptions, doctor, argv, **overrides)
