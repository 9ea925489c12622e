"""Apply a change set that `plan` made, and that a person has read.

It is refused unless it makes exactly what this folder's template and these options want of the
stack as it is now, so that what was read is what happens.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions, add_deploy_options, arn, common_parser
from endpoint.cli.script import Result
from endpoint.provision import plan as plans


@dataclass(frozen=True)
class ApplyOptions(DeployOptions):
    """What to apply.

    Attributes:
        change_set: its ARN, as `plan` printed it.
    """

    change_set: str


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("apply", "Apply a change set of the infrastructure, made by `plan`.")
    add_deploy_options(parser)
    text = "the change set to apply, as `plan` printed it"
    parser.add_argument("--change-set", metavar="ARN", type=arn, required=True, help=text)
    return parser


def apply(context: Context, options: ApplyOptions) -> Result:
    """Check the change set and apply it."""
    change_set = plans.require_applicable(context, options.change_set, options)
    lines = plans.markdown(context, change_set, "")
    for line in lines:
        context.console.say(line)
    context.console.ask(f"Apply these changes in {context.account.region}?")
    context.begin(f"infrastructure: change set {change_set.arn}")
    if context.dry_run:
        return Result({"applied": None}, ["Dry run: nothing was applied."])
    context.change_sets.execute(change_set)
    return Result(
        {"applied": change_set.arn, "changes": len(change_set.changes)},
        [f"Applied: {len(change_set.changes)} resources of {change_set.stack} are changed."],
    )


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), ApplyOptions, apply, argv, **overrides)
