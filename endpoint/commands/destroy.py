"""Delete everything of a deployment, the public side first, and verify that nothing is left."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import CommonOptions, common_parser
from endpoint.cli.script import Result
from endpoint.provision import removal


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return common_parser("destroy", "Delete a deployment: gateway, endpoints, everything.")


def destroy(context: Context, _: CommonOptions) -> Result:
    """Delete the gateway, then everything that `delete` deletes."""
    found = removal.search(context, gateway=True)
    others = list(removal.of_others(context))
    kept = [*removal.files_to_keep(context), *others]
    lines = (*found.lines(context.name), *removal.trained_adapters(context),
             *removal.compiled_models(context), *kept)  # fmt: skip
    for line in lines:
        context.console.say(line)
    if found.own:
        context.console.ask(f"Delete all of it in {context.account.region}?")
    result = removal.delete_everything(context, found)
    if not others:
        return result
    said = [
        line.replace("nothing costs anything", "nothing of Easel's costs anything")
        for line in result.lines
    ]
    return replace(result, lines=[*said, *others])


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), CommonOptions, destroy, argv, **overrides)
