"""A new API key for the gateway: printed once, and kept nowhere.

Its entry, with the key's SHA-256, goes into a file that `deploy --keys` takes to the gateway.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

if not __package__:  # run as `python endpoint/create_key.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.core.problems import ScriptError
from endpoint.provision.gateway_access import entry, new_key, read_keys

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = argparse.ArgumentParser(
        prog="python -m endpoint.create_key", description="Make an API key for the gateway."
    )
    add = parsed.add_argument
    add("who", type=_name, help="a name for the key; the log calls it so")
    add("--per-minute", type=int, help="how many pictures it may ask for in a minute")
    add("--expires", type=_moment, help="when it ends, such as 2027-01-01")
    add("--file", type=Path, default=Path("keys.json"), help="default: keys.json")
    add("--replace", action="store_true", help="forget the key of that name that there is")
    return parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Make a key and return the exit code: 0 done, 1 failed, 2 wrong arguments."""
    args = parser().parse_args(argv)
    try:
        key = create(args)
    except ScriptError as error:
        print(f"{error}\n{error.advice}", file=sys.stderr)
        return 1
    print(key)
    print(
        f"Written down nowhere: give it to {args.who} now. Its SHA-256 is in {args.file};\n"
        f"`./setup.sh deploy --keys {args.file}` makes it valid.",
        file=sys.stderr,
    )
    return 0


def create(args: argparse.Namespace) -> str:
    """Add an entry to the file and return its key.

    Raises:
        ScriptError: if the name is taken, or the file is no file of keys.
    """
    keys = read_keys(args.file) if args.file.exists() else []
    others = [each for each in keys if each["name"] != args.who]
    if len(others) != len(keys) and not args.replace:
        raise ScriptError(
            f"{args.file} has a key for {args.who}.", "--replace makes it another one."
        )
    key = new_key()
    limits = {"per_minute": args.per_minute, "expires": args.expires}
    made = entry(args.who, key) | {name: each for name, each in limits.items() if each}
    args.file.write_text(json.dumps([*others, made], indent=2) + "\n", encoding="utf-8")
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


if __name__ == "__main__":
    sys.exit(main())
