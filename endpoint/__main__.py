"""`python -m endpoint` lists the commands; `python -m endpoint COMMAND ...` runs one."""

from __future__ import annotations

import signal

# While it imports, Ctrl-C ends this process without a traceback: nothing has begun yet.
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from endpoint import create_endpoint, delete_endpoint, use_endpoint
from endpoint.commands import (
    apply,
    batch,
    build_image,
    create_key,
    deploy,
    destroy,
    doctor,
    estimate,
    models,
    plan,
    prove,
    start,
    status,
    stop,
    train,
    usage,
)
from endpoint.commands import compile as compile_model


class Command(Protocol):
    """A module with a script in it."""

    def parser(self) -> argparse.ArgumentParser: ...

    def main(self, argv: Sequence[str] | None = None) -> int: ...


# In the order in which an operator needs them.
COMMANDS: dict[str, Command] = {
    "deploy": deploy,
    "destroy": destroy,
    "plan": plan,
    "apply": apply,
    "doctor": doctor,
    "create": create_endpoint,
    "use": use_endpoint,
    "batch": batch,
    "stop": stop,
    "start": start,
    "delete": delete_endpoint,
    "status": status,
    "usage": usage,
    "train": train,
    "compile": compile_model,
    "models": models,
    "estimate": estimate,
    "build_image": build_image,
    "create-key": create_key,
    "prove": prove,
}


def listed() -> str:
    """Return the list of commands."""
    lines = [f"  {name:12}{command.parser().description}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m endpoint COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "`python -m endpoint COMMAND --help` lists a command's options.",
            "`python -m endpoint.emulator` runs Easel on this machine, without AWS.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; 2 for an unknown command."""
    # Without arguments nothing is changed, so the usage is the answer and not an error.
    name, *rest = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    if name in {"-h", "--help", "help"}:
        print(listed())
        return 0
    if name not in COMMANDS:
        print(f"{listed()}\n\nerror: no such command: {name}", file=sys.stderr)
        return 2
    return COMMANDS[name].main(rest)


if __name__ == "__main__":
    # From now on a command reports what it has begun.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads the output, such as `head`, has enough of it:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
