"""Create an API key for the gateway: it is printed once and stored nowhere.

The key's SHA-256 goes into a file, which `deploy --keys` passes to the gateway.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from endpoint.cli.options import read
from endpoint.core.problems import ScriptError
from endpoint.provision.gateway_access import key_entry, new_key, read_keys

# The gateway logs the name, so it has no spaces or control characters.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class KeyOptions:
    """The key to create."""

    who: str
    per_minute: int | None
    expires: str | None
    file: Path
    replace: bool


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m endpoint create-key", description="Create an API key for the gateway."
    )
    add = parser.add_argument
    add("who", type=_name, help="a name for the key, which the gateway logs")
    add("--per-minute", type=int, help="limit of pictures per minute")
    add("--expires", type=_moment, help="last moment of validity, such as 2027-01-01")
    add("--file", type=Path, default=Path("keys.json"), help="default: keys.json")
    add("--replace", action="store_true", help="replace the existing key of this name")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Create a key and return the exit code: 0 done, 1 failed, 2 wrong arguments."""
    options = read(KeyOptions, parser().parse_args(argv))
    try:
        key = create(options)
    except ScriptError as error:
        print(f"{error}\n{error.advice}", file=sys.stderr)
        return 1
    # Only the key goes to standard output, so that it can be piped.
    print(key)
    print(
        f"The key is not stored: pass it on to {options.who} now. {options.file} has its SHA-256;\n"
        f"`./setup.sh deploy --keys {options.file}` makes it valid.",
        file=sys.stderr,
    )
    return 0


def create(options: KeyOptions) -> str:
    """Add an entry to the file and return its key.

    Raises:
        ScriptError: if the name has a key already, or the file has other content than keys.
    """
    entries = read_keys(options.file) if options.file.exists() else []
    others = [entry for entry in entries if entry["name"] != options.who]
    if len(others) != len(entries) and not options.replace:
        raise ScriptError(
            f"{options.file} already has a key for {options.who}.", "--replace replaces it."
        )
    key = new_key()
    limits = {"per_minute": options.per_minute, "expires": options.expires}
    entry = key_entry(options.who, key) | {name: limit for name, limit in limits.items() if limit}
    options.file.write_text(json.dumps([*others, entry], indent=2) + "\n", encoding="utf-8")
    return key


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("letters, digits, dots, dashes; at most 63")
    return text


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError("a date such as 2027-01-01") from error
