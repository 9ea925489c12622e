"""Delete what create_endpoint made; `endpoint/provision/removal.py` has the steps.

The exit code is 1 while anything remains.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Run as a file, Python puts the file's own folder on the path, where `endpoint` cannot be found.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import ModelOptions, common_parser
from endpoint.cli.script import Result
from endpoint.provision import removal
from endpoint.provision.serving import in_service


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("delete", "Delete a deployment's endpoints and its infrastructure.")
    parser.add_argument("--model", help="delete this model's endpoint only, and keep the rest")
    return parser


def delete(context: Context, options: ModelOptions) -> Result:
    """Delete one model's endpoint, or all of the deployment's resources."""
    found = removal.search(context, options.model)
    trained = [] if options.model else removal.trained_adapters(context)
    trained += [] if options.model else removal.compiled_models(context)
    kept = removal.files_to_keep(context, options.model)
    for line in (*found.lines(context.name), *trained, *kept):
        context.console.say(line)
    if options.model:
        files = f"its files in {context.deployment.bucket}"
        context.console.ask(f"Delete this and {files}, in {context.account.region}?")
        removal.delete_endpoints(context, found)
        kept = removal.delete_files(context, options.model)
        in_service.repair_scaling(context)
        lines = [f"Deleted the endpoint of {options.model}.", *kept]
        return Result({"deleted": options.model}, lines)
    stored = None
    if found.own:
        context.console.ask(f"Delete all of it in {context.account.region}?")
        removal.delete_training(context, found)
        removal.delete_endpoints(context, found)
        stored = removal.delete_infrastructure(context, found)
    return removal.verify(context, found, stored)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), ModelOptions, delete, argv, **overrides)


if __name__ == "__main__":
    sys.exit(main())
