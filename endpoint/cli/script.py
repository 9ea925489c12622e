"""The frame of every script: options, errors, and the report of a failure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from endpoint.cli import inventory
from endpoint.cli.context import Context
from endpoint.cli.options import CommonOptions, read
from endpoint.core.account import Account, open_session
from endpoint.core.clock import Clock
from endpoint.core.console import Console
from endpoint.core.dry_run import DryRun
from endpoint.core.problems import BadArgument, Declined, ScriptError, UploadFailed, translated

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_SELECTING = (
    "name", "region", "profile", "model", "also", "revision", "image", "inference_ami",
    "instance_type", "change_set", "label", "stack_role", "adapter", "watch", "stop", "resume",
    "endpoint", "without_endpoint",
)  # fmt: skip
ScriptOptions = TypeVar("ScriptOptions", bound=CommonOptions)


@dataclass
class Result:
    """What a script prints at its end.

    Attributes:
        data: with --json.
        lines: without --json.
        good: whether the exit code is 0.
    """

    data: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    good: bool = True


def run(
    parser: argparse.ArgumentParser,
    options_type: type[ScriptOptions],
    work: Callable[[Context, ScriptOptions], Result],
    argv: Sequence[str] | None = None,
    *,
    session: Any = None,
    clock: Clock | None = None,
) -> int:
    """Run a script and return its exit code: 0 done, 1 failed, 2 wrong arguments, 130 Ctrl-C.

    Args:
        parser: from `common_parser`, with the script's own options added.
        options_type: the class for the parsed options.
        work: the script's own work.
        argv: the command line; this process's by default.
        session: a boto3 session to use instead of --profile and --region.
        clock: a clock to use instead of the system's.
    """
    options = read(options_type, parser.parse_args(argv))
    clock = clock or Clock()
    console = _console(options, clock)
    contexts: list[Context] = []

    def opened() -> Result:
        context = _open(options, console, session, clock)
        contexts.append(context)
        return work(context, options)

    return _guarded(console, options, opened, contexts)


def run_without_aws(
    options: ScriptOptions, work: Callable[[Console, Clock], Result], clock: Clock | None = None
) -> int:
    """Run a script that needs no account; return its exit code, as `run`.

    Args:
        options: the parsed command line.
        work: the script's own work.
        clock: as for `run`.
    """
    clock = clock or Clock()
    console = _console(options, clock)
    return _guarded(console, options, lambda: work(console, clock), [])


def _console(options: CommonOptions, clock: Clock) -> Console:
    # A dry run changes nothing, so it asks nothing.
    return Console(clock, as_json=options.json, yes=options.yes or options.dry_run)


def _guarded(
    console: Console,
    options: CommonOptions,
    work: Callable[[], Result],
    contexts: list[Context],
) -> int:
    """Do a script's work, report how it ends, and return the exit code.

    Args:
        console: for the report.
        options: of the script.
        work: adds the deployment that it opens to `contexts`.
        contexts: empty at first.
    """
    try:
        with translated():
            _refuse_empty(options)
            result = work()
    except ScriptError as error:
        return _report(_last(contexts), console, error)
    except OSError as error:
        unusable = UploadFailed(
            f"{error.filename or 'A file or the network'}: {error.strerror or error}."
        )
        return _report(_last(contexts), console, unusable)
    # An interrupted run can leave resources that cost money, so it is reported as well.
    except KeyboardInterrupt:
        interrupted = ScriptError("Interrupted.", "The same command continues.")
        _report(_last(contexts), console, interrupted)
        return _INTERRUPTED
    console.result(result.data, result.lines)
    return 0 if result.good else 1


def _last(contexts: list[Context]) -> Context | None:
    return contexts[-1] if contexts else None


def _refuse_empty(options: CommonOptions) -> None:
    """Refuse an option that selects something and is empty, as `--name "$UNSET"` makes it.

    Its default would be another deployment, another region, or every model.
    """
    for name in _SELECTING:
        value = getattr(options, name, None)
        values = value if isinstance(value, tuple) else (value,)
        if any(isinstance(each, str) and not each.strip() for each in values):
            raise BadArgument(f"--{name.replace('_', '-')} is empty.")


def _open(options: CommonOptions, console: Console, session: Any, clock: Clock) -> Context:
    session = session or open_session(options.profile, options.region)
    if options.dry_run:
        DryRun(session, console)
        console.say("Dry run: nothing is changed.")
    name = "main" if options.name is None else options.name
    return Context(Account(session, clock), console, name, dry_run=options.dry_run)


def _report(context: Context | None, console: Console, error: ScriptError) -> int:
    """Print the error, the advice, and what remains with its price; return the exit code."""
    # The scan comes before the output: it takes seconds, and the error should stay together.
    left, lines = _remaining(context) if context and not isinstance(error, Declined) else ([], [])
    console.say(f"error: {error}")
    if error.advice:
        console.say(error.advice)
    for line in lines:
        console.say(line)
    if console.as_json:
        details = {"type": type(error).__name__, "message": str(error), "advice": error.advice}
        console.result({"error": details, "left": left}, [])
    return error.exit_code


def _remaining(context: Context) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the deployment's resources as data and as lines.

    If AWS cannot be asked, which expired credentials or a second Ctrl-C prevent, they are the steps
    that this run began.
    """
    if context.dry_run:
        return [], []
    try:
        with translated():
            inventoried = inventory.scan(context, context.name)
    except (ScriptError, KeyboardInterrupt) as error:
        reason = str(error) or "interrupted"
        lines = [f"Could not list the remaining resources ({reason}). This run began these steps:"]
        lines += [f"  {step}" for step in context.begun] or ["  none"]
        lines.append("Once AWS answers, `python -m endpoint status` shows their cost.")
        return [{"kind": "step", "name": step} for step in context.begun], lines
    resources = inventoried.resources
    if not resources:
        return [], ["This deployment has no resources; nothing costs anything."]
    lines = ["This deployment's resources now:", *(f"  {item.line()}" for item in resources)]
    # `delete` leaves the gateway, so a deployment with one has to be destroyed.
    public = any(resource.kind in inventory.GATEWAY_KINDS for resource in resources)
    command = "./setup.sh destroy" if public else "python -m endpoint delete"
    lines.append(
        f"Together they cost about {inventoried.usd_per_hour:.3f} USD per hour;"
        f" `{command}` removes them."
    )
    lines += inventoried.scaling_advice()
    return [resource.to_dict() for resource in resources], lines
