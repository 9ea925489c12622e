"""Plan what `deploy` would change in the infrastructure, as a change set for a person to read.

    python -m endpoint plan --model sdxl                      what would change, as a change set
    python -m endpoint apply --model sdxl --change-set ARN    exactly that
    python -m endpoint plan --discard                         deletes what was planned

The options are those of `deploy`. Nothing that costs money exists before it is applied.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions, add_deploy_options, arn, common_parser
from endpoint.cli.script import Result
from endpoint.provision import plan as plans


@dataclass(frozen=True)
class PlanOptions(DeployOptions):
    """What to plan.

    Attributes:
        label: what the plan is for; it replaces the label's earlier plan.
        commit: named in the plan.
        stack_role: the ARN of the role that CloudFormation works with; None for the caller's.
        discard: delete the label's change sets, and plan nothing.
    """

    label: str
    commit: str
    stack_role: str | None
    discard: bool


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("plan", "Plan changes of the infrastructure, as a change set.")
    add_deploy_options(parser)
    add = parser.add_argument
    add("--label", default="by hand", help="what it is for; replaces the label's earlier plan")
    add("--commit", default="", help="the commit that the plan is of, to be named in it")
    add("--stack-role", metavar="ARN", type=arn, help="the role that CloudFormation works with")
    add("--discard", action="store_true", help="delete the label's change sets, and plan nothing")
    return parser


def plan(context: Context, options: PlanOptions) -> Result:
    """Create a change set, or discard the label's; return the plan as Markdown."""
    if options.discard:
        return Result({"label": options.label}, plans.discard(context, options.label))
    if context.dry_run:
        return _described(context, options)
    made = plans.create(
        context,
        options,
        label=options.label,
        commit=options.commit,
        role=options.stack_role,
    )
    lines = plans.markdown(context, made, options.commit)
    data = {
        "change_set": made.arn if made else "",
        "commit": options.commit,
        "changes": len(made.changes) if made else 0,
        "markdown": "\n".join(lines),
    }
    return Result(data, lines)


def _described(context: Context, options: PlanOptions) -> Result:
    """Return what would change, without a change set, which would be written to the account."""
    found = plans.compare(context, options)
    lines = plans.described(context, found, options.commit)
    changes = [asdict(change) for change in found.changes]
    return Result({"change_set": None, "changes": changes}, lines)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), PlanOptions, plan, argv, **overrides)
