"""Stop paying by the hour: delete endpoints, but keep everything that `start` needs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import ModelOptions, add_model_option, common_parser
from endpoint.cli.script import Result
from endpoint.provision.ownership import Ownership
from endpoint.provision.serving import in_service


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("stop", "Delete endpoints but keep their configurations.")
    add_model_option(parser)
    return parser


def stop(context: Context, options: ModelOptions) -> Result:
    """Delete the endpoints, and their scaling first."""
    scaled = context.scaling.scaled(f"{context.deployment.prefix}-")
    names = _running(context, options.model, scaled)
    if not names:
        in_service.repair_scaling(context)
        return Result({"stopped": []}, ["No endpoint is running."])
    context.console.ask(f"Delete {', '.join(names)}? `python -m endpoint start` restores them.")
    for name in names:
        context.begin(f"endpoint {name}")
        _forget_others(context, name)
        in_service.take_out(context, [name])
    in_service.repair_scaling(context)
    lines = [
        f"Stopped: {', '.join(names)}. No instance costs money any more.",
        f"`python -m endpoint start --name {context.name}` restores them in some minutes.",
    ]
    return Result({"stopped": names}, lines)


def _forget_others(context: Context, endpoint: str) -> None:
    """Delete the configurations that the endpoint does not run, so that `start` restores this one.

    A refused or interrupted update leaves one.
    """
    description = context.endpoints.find(endpoint)
    if description is None or description["EndpointStatus"] != "InService":
        return
    deployment, ownership = context.deployment, Ownership(context)
    model = deployment.model_of(endpoint)
    for item in context.models.configs(endpoint):
        name = item["EndpointConfigName"]
        other = deployment.is_version_of(name, model) and name != description["EndpointConfigName"]
        if other and ownership.owns_config(name):
            context.models.delete_config(name)


def _running(context: Context, model: str | None, scaled: list[str]) -> list[str]:
    """Return the endpoints to delete.

    They include names in `scaled` without an endpoint: an interrupted run can leave those.
    """
    deployment, ownership = context.deployment, Ownership(context)
    names = {*context.endpoints.names(f"{deployment.prefix}-"), *scaled}
    asked = {deployment.endpoint(model)} if model else set(filter(deployment.owns, names))
    # `owns_scaling` is true of a name without an endpoint, too.
    return sorted(filter(ownership.owns_scaling, names & asked))


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), ModelOptions, stop, argv, **overrides)
