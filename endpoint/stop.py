"""Stop paying by the hour: delete endpoints, and keep all that `start` needs to bring them back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as `python endpoint/stop.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.script import Result


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("stop", "Delete endpoints but keep their configurations.")
    parsed.add_argument("--model", help="only this one's (default: all of the deployment's)")
    return parsed


def stop(context: Context, args: argparse.Namespace) -> Result:
    """Delete the endpoints, their scaling first."""
    prefix = f"{context.deployment.prefix}-"
    wanted = context.deployment.endpoint(args.model) if args.model else None
    scaled = context.scaling.scaled(prefix)
    found = {*context.endpoints.names(prefix), *scaled}
    names = sorted(name for name in found if name == wanted or
                   (wanted is None and context.deployment.owns(name)))  # fmt: skip
    if names:
        context.console.ask(f"Delete {', '.join(names)}? `start` makes them again.")
    for name in names:
        context.begin(f"endpoint {name}")
        if name in scaled:
            context.scaling.remove(name)
        context.endpoints.delete(name)
    if not names:
        return Result({"stopped": []}, ["No endpoint is running."])
    lines = [
        f"Stopped: {', '.join(names)}. No instance is paid for any more.",
        f"python -m endpoint.start --name {context.name} brings them back in some minutes.",
    ]
    return Result({"stopped": names}, lines)


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), stop, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
