"""Delete everything of a deployment, the public side first, and verify that nothing is left."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import CommonOptions, common_parser
from endpoint.cli.script import Result
from endpoint.provision import removal
from endpoint.provision.gateway_project import GatewayProject


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return common_parser("destroy", "Delete a deployment: gateway, endpoints, everything.")


def destroy(context: Context, _: CommonOptions) -> Result:
    """Delete the gateway, then everything that `delete` deletes."""
    deployment = context.deployment
    context.console.ask(f"Delete everything of {deployment.prefix} in {context.account.region}?")
    context.begin(f"gateway: Lambda function {deployment.function} and its REST API")
    # An API is found by the function that it calls, so the APIs go first.
    for api in context.gateway.apis_of(deployment.function):
        context.gateway.delete_api(api)
    context.gateway.delete_function(deployment.function)
    removal.delete_endpoints(context, None)
    stored = removal.delete_infrastructure(context)
    if not context.dry_run:
        GatewayProject(deployment).remove()
    return removal.verify(context, stored)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), CommonOptions, destroy, argv, **overrides)
