"""Who may use a deployed gateway, and how much: the options, and the variables that they become.

What an option does not say stays as it is deployed: keys and the secret above all, which only the
function's own environment has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from endpoint.core.problems import ScriptError

# The key that the smoke test of a deployment with keys paints with; it is told to nobody.
_SMOKE = "easel-smoke-test"
_SMOKE_HOURS = 1
_DEFAULTS = {"EASEL_PICTURES_PER_MINUTE": "20", "EASEL_PROMPT_FILTER": "refuse"}
_KEPT = ("EASEL_PROMPT_FILTER_WORDS", "EASEL_CORS_ORIGINS", *_DEFAULTS)


@dataclass(frozen=True)
class GatewayAccess:
    """What a gateway is told of its visitors.

    Attributes:
        variables: the environment variables.
        smoke_key: a key for the next hour, where keys are needed.
    """

    variables: Mapping[str, str]
    smoke_key: str | None = None


def add_options(parsed: argparse.ArgumentParser) -> None:
    """Add the options of a deployment that say who may paint."""
    add = parsed.add_argument
    add("--keys", type=Path, metavar="FILE", help="who may paint, as create_key writes it")
    add("--open", action="store_true", help="everybody may paint; forgets all keys")
    add("--new-secret", action="store_true", help="sign sessions and links anew from now on")
    add("--pictures-per-minute", type=int, help="for one visitor without a key; 0 for no limit")
    add("--prompt-filter", choices=["off", "warn", "refuse"], help="new deployments: refuse")
    add("--prompt-filter-words", metavar="WORDS", help="more words, with commas; a minus allows")
    add("--cors-origins", metavar="ORIGINS", help="sites whose scripts may use it, with commas")


def access_of(args: argparse.Namespace, before: Mapping[str, str], bucket: str) -> GatewayAccess:
    """Return what the gateway is to be told.

    Args:
        args: from `add_options`.
        before: the deployed function's variables; empty for a first deployment.
        bucket: the deployment's.

    Raises:
        ScriptError: if the file of keys cannot be used.
    """
    chosen = {
        "EASEL_PICTURES_PER_MINUTE": _per_minute(args.pictures_per_minute),
        "EASEL_PROMPT_FILTER": args.prompt_filter,
        "EASEL_PROMPT_FILTER_WORDS": args.prompt_filter_words,
        "EASEL_CORS_ORIGINS": args.cors_origins,
    }
    kept = {**_DEFAULTS, **{name: before[name] for name in _KEPT if name in before}}
    variables = {**kept, **{name: text for name, text in chosen.items() if text is not None}}
    variables["EASEL_SECRET"] = _secret(before.get("EASEL_SECRET", ""), new=args.new_secret)
    variables["EASEL_LINKS"] = f"s3://{bucket}/links/"
    keys = _keys(args, before)
    if not keys:
        return GatewayAccess(variables)
    key = new_key()
    ends = datetime.now(UTC) + timedelta(hours=_SMOKE_HOURS)
    smoke = {**entry(_SMOKE, key), "expires": ends.isoformat(timespec="seconds")}
    listed = json.dumps([*keys, smoke], separators=(",", ":"))
    return GatewayAccess({**variables, "EASEL_API_KEYS": listed}, key)


def new_key() -> str:
    """Return a key: 256 random bits, which nobody guesses and no list of passwords has."""
    return f"easel_{secrets.token_urlsafe(32)}"


def entry(name: str, key: str) -> dict[str, Any]:
    """Return what the gateway is told of a key: never the key itself."""
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}


def read_keys(file: Path) -> list[dict[str, Any]]:
    """Return the entries in a file of keys.

    Raises:
        ScriptError: if there is no such file, or it has something other than entries.
    """
    try:
        keys = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ScriptError(f"{file} cannot be read: {error}", _ADVICE) from error
    if not isinstance(keys, list) or not all(_is_entry(each) for each in keys):
        raise ScriptError(f"{file} is no list of keys with a name and a SHA-256 each.", _ADVICE)
    return keys


_ADVICE = "Make it with `python -m endpoint.create_key NAME`."


def _is_entry(each: Any) -> bool:
    return (
        isinstance(each, dict)
        and {"name", "sha256"} <= set(each) <= {"name", "sha256", "per_minute", "expires"}
        and bool(re.fullmatch(r"[0-9a-f]{64}", str(each["sha256"])))
    )


def _keys(args: argparse.Namespace, before: Mapping[str, str]) -> list[dict[str, Any]]:
    if args.open:
        return []
    if args.keys is not None:
        return read_keys(args.keys)
    deployed: list[dict[str, Any]] = json.loads(before.get("EASEL_API_KEYS", "[]"))
    return [each for each in deployed if each["name"] != _SMOKE]


def _secret(before: str, *, new: bool) -> str:
    """Return the secret to sign with, and after a change the one before, which still verifies."""
    if before and not new:
        return before
    return ",".join([secrets.token_urlsafe(32), *before.split(",")[:1]]).rstrip(",")


def _per_minute(number: int | None) -> str | None:
    return None if number is None else str(number) if number else "off"
