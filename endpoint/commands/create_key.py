"""Create an API key for the gateway: it is printed once and stored nowhere.

The key's SHA-256 goes into a file, which `deploy --keys` passes to the gateway.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from endpoint.cli.options import amount, read
from endpoint.core.private_files import write_private
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.provision.gateway.gateway_access import check_keys, key_entry, new_key, read_keys

_ADVICE = "Correct it, or choose another --file: a new one is created."


@dataclass(frozen=True)
class KeyOptions:
    """The key to create."""

    who: str
    per_minute: int | None
    expires: str | None
    usd_per_month: float | None
    owner: bool
    file: Path
    replace: bool


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m endpoint create-key", description="Create an API key for the gateway."
    )
    add = parser.add_argument
    add("who", help="a name for the key, which the gateway logs")
    add("--per-minute", type=int, help="limit of pictures per minute")
    add("--expires", type=_moment, help="last moment of validity, such as 2027-01-01")
    budget = "what its pictures, and those of its links, can cost in a month"
    add("--usd-per-month", type=amount, metavar="USD", help=budget)
    add("--owner", action="store_true", help="it sees what all keys use")
    add("--file", type=Path, default=Path("keys.json"), help="default: keys.json")
    add("--replace", action="store_true", help="replace the existing key of this name")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Create a key and return the exit code: 0 done, 1 failed, 2 wrong arguments."""
    arguments = parser()
    options = read(KeyOptions, arguments.parse_args(argv))
    key = new_key()
    try:
        entry = _entry(options, key)
    except BadArgument as error:
        arguments.error(str(error))
    try:
        _add(entry, options)
    except ScriptError as error:
        print(f"{error}\n{error.advice}", file=sys.stderr)
        return error.exit_code
    # Only the key goes to standard output, so that it can be piped.
    print(key)
    print(
        f"The key is not stored: pass it on to {options.who} now. {options.file} has its SHA-256;\n"
        f"`./setup.sh deploy --keys {options.file}` makes it valid.",
        file=sys.stderr,
    )
    return 0


def _entry(options: KeyOptions, key: str) -> dict[str, Any]:
    """Return the key's entry; raises BadArgument if the gateway could not read it."""
    limits = {
        "per_minute": options.per_minute,
        "expires": options.expires,
        "usd_per_month": options.usd_per_month,
        "owner": options.owner or None,
    }
    entry = key_entry(options.who, key)
    entry |= {name: limit for name, limit in limits.items() if limit is not None}
    check_keys([entry], f"the key for {options.who!r}")
    return entry


def _add(entry: dict[str, Any], options: KeyOptions) -> None:
    """Add an entry to the file, which only its owner can read from then on.

    Raises:
        ScriptError: if the name has a key already.
        BadArgument: if the file cannot be used.
    """
    entries = read_keys(options.file, _ADVICE) if os.path.lexists(options.file) else []
    others = [entry for entry in entries if entry["name"] != options.who]
    if len(others) != len(entries) and not options.replace:
        raise ScriptError(
            f"{options.file} already has a key for {options.who}.", "--replace replaces it."
        )
    text = json.dumps([*others, entry], indent=2) + "\n"
    try:
        write_private(options.file, text)
    except OSError as error:
        raise BadArgument(
            f"{options.file} cannot be written: {error.strerror}.", "Choose another --file."
        ) from error


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("a date such as 2027-01-01") from error
    # The gateway reads a time without a zone as one of UTC.
    if (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) <= datetime.now(UTC):
        raise argparse.ArgumentTypeError(f"{text} is over already")
    return moment.isoformat()
