"""Take everything of a deployment down, the public side first, and prove that nothing is left."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as `python endpoint/destroy.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.script import Result
from endpoint.delete_endpoint import delete_endpoints, delete_infrastructure, look_for_the_rest
from endpoint.provision.gateway_project import GatewayProject


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    return script.arguments("destroy", "Remove a deployment: gateway, endpoints, everything.")


def destroy(context: Context, _: argparse.Namespace) -> Result:
    """Remove the gateway, then all that delete_endpoint removes, and look for the rest."""
    deployment = context.deployment
    context.console.ask(f"Delete everything of {deployment.prefix} in {context.account.region}?")
    context.begin(f"gateway: Lambda function {deployment.function} and its REST API")
    # The APIs are found by the function that they call, so they go first.
    for api in context.gateway.apis_of(deployment.function):
        context.gateway.delete_api(api)
    context.gateway.delete_function(deployment.function)
    delete_endpoints(context, None)
    delete_infrastructure(context)
    if not context.dry_run:
        GatewayProject(deployment).remove()
    return look_for_the_rest(context)


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), destroy, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
