"""What every script does around its own work: arguments, errors, the report of a failure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from endpoint.catalogue.models import UnknownModel
from endpoint.cli import inventory
from endpoint.cli.context import Context
from endpoint.core.account import Account, open_session
from endpoint.core.clock import Clock
from endpoint.core.console import Console
from endpoint.core.dry_run import DryRun
from endpoint.core.naming import BadName
from endpoint.core.problems import BadArgument, Declined, ScriptError, translated

_INTERRUPTED = 130  # as shells report Ctrl-C


@dataclass
class Result:
    """What a script found or did.

    Attributes:
        data: for --json.
        lines: for a person.
        good: whether the exit code is 0.
    """

    data: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    good: bool = True


Work = Callable[[Context, argparse.Namespace], Result]


def arguments(module: str, story: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts have.

    Args:
        module: the script's name.
        story: what it does, in a sentence or two.
    """
    parser = argparse.ArgumentParser(prog=f"python -m endpoint.{module}", description=story)
    parser.add_argument("--name", default="main", help="the deployment (default: main)")
    parser.add_argument("--region", help="AWS region (default: your configuration's)")
    parser.add_argument("--profile", help="profile of your AWS configuration")
    parser.add_argument("--yes", action="store_true", help="agree to everything that is asked")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the calls that would change something"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def run(
    parser: argparse.ArgumentParser,
    work: Work,
    argv: Sequence[str] | None = None,
    *,
    session: Any = None,
    clock: Clock | None = None,
) -> int:
    """Run a script and return its exit code: 0 done, 1 failed, 2 wrong arguments, 130 Ctrl-C.

    Args:
        parser: from `arguments`, with the script's own options added.
        work: the script's own work.
        argv: the command line; this process's by default.
        session: a boto3 session in place of the one that --profile and --region describe.
        clock: in place of the real time.
    """
    args = parser.parse_args(argv)
    clock = clock or Clock()
    console = Console(clock, as_json=args.json, yes=args.yes or args.dry_run)
    context: Context | None = None
    try:
        with translated():
            context = _open(args, console, session, clock)
            result = work(context, args)
    except (BadName, UnknownModel) as error:
        return _report(None, console, BadArgument(str(error)))
    except ScriptError as error:
        return _report(context, console, error)
    except KeyboardInterrupt:
        _report(context, console, ScriptError("Interrupted.", "The same command continues."))
        return _INTERRUPTED
    console.result(result.data, result.lines)
    return 0 if result.good else 1


def _open(args: argparse.Namespace, console: Console, session: Any, clock: Clock) -> Context:
    session = session or open_session(args.profile, args.region)
    if args.dry_run:
        DryRun(session, console)
        console.say("Dry run: nothing is changed.")
    return Context(Account(session, clock), console, args.name or "main", dry_run=args.dry_run)


def _report(context: Context | None, console: Console, error: ScriptError) -> int:
    """Say what went wrong, what to do, what there is now and what that costs; return 1."""
    left, lines = _left(context) if context and not isinstance(error, Declined) else ([], [])
    console.say(f"error: {error}")
    if error.advice:
        console.say(error.advice)
    for line in lines:
        console.say(line)
    if console.as_json:
        details = {
            "type": type(error).__name__,
            "message": str(error),
            "advice": error.advice,
        }
        console.result({"error": details, "left": left}, [])
    return 1


def _left(context: Context) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what exists of the deployment; from this run's memory where AWS does not answer."""
    if context.dry_run:
        return [], []
    try:
        with translated():
            found = inventory.scan(context, context.name)
    except ScriptError as error:
        lines = [f"What there is now could not be asked ({error}). This run did, in this order:"]
        lines += [f"  {what}" for what in context.touched] or ["  nothing"]
        lines.append("`status` shows what that costs, once AWS answers.")
        return [{"kind": "step", "name": what} for what in context.touched], lines
    if not found.resources:
        return [], ["Nothing of this deployment exists; nothing costs anything."]
    lines = ["What there is of this deployment now:"]
    lines += [f"  {resource.line()}" for resource in found.resources]
    public = any(resource.kind in inventory.GATEWAY_KINDS for resource in found.resources)
    command = "./setup.sh destroy" if public else "delete_endpoint"
    lines.append(f"In all about {found.usd_per_hour:.3f} USD per hour; `{command}` removes it.")
    return [resource.to_dict() for resource in found.resources], lines
