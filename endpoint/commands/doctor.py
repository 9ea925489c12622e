"""Check everything that could prevent a deployment, before anything is created or paid for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import DoctorOptions, add_endpoint_options, common_parser
from endpoint.cli.script import Result
from endpoint.provision import checks, rights


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("doctor", "Check what would prevent a deployment.")
    add_endpoint_options(parser)
    parts = ", ".join(rights.PARTS)
    policy = f"print one of the IAM policies that an operator needs: {parts}"
    parser.add_argument("--policy", choices=rights.PARTS, help=policy)
    training = "check what training needs as well"
    parser.add_argument("--training", action="store_true", help=training)
    return parser


def doctor(context: Context, options: DoctorOptions) -> Result:
    """Report all checks, or print the operator's policy.

    The result is good unless a check would prevent a deployment.
    """
    if options.policy:
        policy = rights.policy(context.deployment, options.policy)
        return Result(policy, [json.dumps(policy, indent=2)])
    results = checks.examine(context, options, training=options.training)
    bad = [check for check in results if check.state == "bad"]
    lines = [line for check in results for line in check.lines()]
    lines.append(f"{len(bad)} of these prevent a deployment." if bad else "Ready to deploy.")
    return Result({"checks": [asdict(check) for check in results]}, lines, good=not bad)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), DoctorOptions, doctor, argv, **overrides)
