"""Delete what create_endpoint made, in the order in which resources depend on each other.

    scaling          alarms first: they could wake what is being deleted
    endpoint         until it is really gone; from then on no instance is paid for
    configurations and models, and their logs
    bucket           its files, and the parts of unfinished uploads
    stack            roles, bucket, dashboard, budget, network
    left-overs       looked for by name and by tag; exit code 1 while there are any

Whatever is gone already is skipped, so the same command continues after any interruption.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as `python endpoint/delete_endpoint.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.aws.logs import group_of
from endpoint.aws.scaling import alarm_name
from endpoint.cli import inventory, script
from endpoint.cli.context import Context
from endpoint.cli.script import Result
from endpoint.core.naming import Deployment
from endpoint.core.problems import StackFailed
from endpoint.provision import payload


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("delete_endpoint", "Delete a deployment's endpoints and the rest.")
    parsed.add_argument("--model", help="delete this model's endpoint only, and keep the rest")
    return parsed


def delete(context: Context, args: argparse.Namespace) -> Result:
    """Delete one model's endpoint, or everything of the deployment."""
    what = f"the endpoint of {args.model}" if args.model else "everything"
    context.console.ask(
        f"Delete {what} of {context.deployment.prefix} in {context.account.region}?"
    )
    delete_endpoints(context, args.model)
    if args.model:
        _delete_files(context, args.model)
        return Result({"deleted": args.model}, [f"The endpoint of {args.model} is gone."])
    delete_infrastructure(context)
    return look_for_the_rest(context)


def delete_endpoints(context: Context, model: str | None) -> None:
    """Delete endpoints with their scaling, configurations, models and logs.

    Args:
        context: where.
        model: only this one's; None for all of the deployment's.
    """
    mine = _Mine(context.deployment, model)
    context.begin("scaling policies and alarms")
    context.scaling.delete_alarms(mine.of(context.scaling.alarms(mine.prefix)))
    for name in mine.of(context.scaling.scaled(mine.prefix)):
        context.scaling.remove(name)
    for name in mine.of(context.endpoints.names(mine.prefix)):
        context.begin(f"endpoint {name}")
        context.endpoints.delete(name)
    context.begin("endpoint configurations, models and logs")
    configs = context.models.configs(mine.prefix)
    for name in mine.of(item["EndpointConfigName"] for item in configs):
        context.models.delete_config(name)
    for name in mine.of(item["ModelName"] for item in context.models.models(mine.prefix)):
        context.models.delete_model(name)
    groups = context.logs.sizes(group_of(mine.prefix))
    for name in mine.of(group.removeprefix(group_of("")) for group in groups):
        context.logs.delete(group_of(name))


@dataclass(frozen=True)
class _Mine:
    """Tells the names of a deployment's resources, or of one model's, from similar ones."""

    deployment: Deployment
    model: str | None

    @property
    def prefix(self) -> str:
        """What all of the names begin with."""
        return self.deployment.endpoint(self.model or "")

    def of(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that are meant."""
        return [name for name in names if self._is(name)]

    def _is(self, name: str) -> bool:
        if self.model is None:
            return self.deployment.owns(name)
        exact = {self.prefix, alarm_name(self.prefix)}
        return name in exact or self.deployment.is_version_of(name, self.model)


def _delete_files(context: Context, model: str) -> None:
    context.begin(f"files of {model}")
    context.bucket.delete(payload.superseded(context.bucket, model, prefix="/"))


def delete_infrastructure(context: Context) -> None:
    """Empty the bucket and delete the stack.

    An endpoint that was at work a moment ago may still put a picture into the emptied bucket, and
    CloudFormation deletes no bucket that holds anything: then both are done once more.
    """
    context.begin(f"bucket {context.deployment.bucket} and stack {context.deployment.stack}")
    context.bucket.empty()
    try:
        context.stacks.delete(context.deployment.stack)
    except StackFailed:
        context.bucket.empty()
        context.stacks.delete(context.deployment.stack)


def look_for_the_rest(context: Context) -> Result:
    """Return what is left of the deployment, and whether that is nothing."""
    if context.dry_run:
        return Result({"left": []}, ["Dry run: nothing was deleted."])
    found = inventory.scan(context, context.name)
    left = [
        resource for resource in found.resources if resource.deployment or resource.kind == "tagged"
    ]
    data = {"left": [resource.to_dict() for resource in left], "notes": found.notes}
    if not left:
        return Result(data, ["Nothing of it is left; nothing costs anything.", *found.notes])
    lines = ["This is left:", *(f"  {resource.line()}" for resource in left), *found.notes]
    if all(resource.kind in inventory.GATEWAY_KINDS for resource in left):
        lines.append("`./setup.sh destroy` removes the gateway as well.")
    else:
        lines.append("Run the same command again; what stays has to be removed by hand.")
    return Result(data, lines, good=False)


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), delete, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
