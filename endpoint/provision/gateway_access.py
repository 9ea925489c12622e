"""Who can use a deployed gateway, and how much: from options to environment variables.

A setting without an option keeps its deployed value. That matters most for the keys and the secret,
which are stored nowhere but in the function's own environment.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from endpoint.cli.options import AccessOptions
from endpoint.core.problems import ScriptError

# The temporary key of the smoke test, where keys are required; it is never printed.
_SMOKE = "easel-smoke-test"
_SMOKE_HOURS = 1
_DEFAULTS = {"EASEL_PICTURES_PER_MINUTE": "20", "EASEL_PROMPT_FILTER": "refuse"}
_KEPT = ("EASEL_PROMPT_FILTER_WORDS", "EASEL_CORS_ORIGINS", *_DEFAULTS)


@dataclass(frozen=True)
class GatewayAccess:
    """The gateway's access settings.

    Attributes:
        variables: environment variables.
        smoke_key: a key that is valid for the next hour, where keys are required.
    """

    variables: Mapping[str, str]
    smoke_key: str | None = None


def access_of(options: AccessOptions, before: Mapping[str, str], bucket: str) -> GatewayAccess:
    """Return the gateway's access settings.

    Args:
        options: what to change.
        before: the deployed function's variables; empty for a first deployment.
        bucket: the deployment's bucket.

    Raises:
        ScriptError: if the file of keys cannot be used.
    """
    changes = {
        "EASEL_PICTURES_PER_MINUTE": _per_minute(options.pictures_per_minute),
        "EASEL_PROMPT_FILTER": options.prompt_filter,
        "EASEL_PROMPT_FILTER_WORDS": options.prompt_filter_words,
        "EASEL_CORS_ORIGINS": options.cors_origins,
    }
    kept = {**_DEFAULTS, **{name: before[name] for name in _KEPT if name in before}}
    variables = {**kept, **{name: text for name, text in changes.items() if text is not None}}
    variables["EASEL_SECRET"] = _secret(before.get("EASEL_SECRET", ""), new=options.new_secret)
    variables["EASEL_LINKS"] = f"s3://{bucket}/links/"
    entries = _key_entries(options, before)
    if not entries:
        return GatewayAccess(variables)
    key = new_key()
    expires = datetime.now(UTC) + timedelta(hours=_SMOKE_HOURS)
    smoke = {**key_entry(_SMOKE, key), "expires": expires.isoformat(timespec="seconds")}
    listed = json.dumps([*entries, smoke], separators=(",", ":"))
    return GatewayAccess({**variables, "EASEL_API_KEYS": listed}, key)


def new_key() -> str:
    """Return a key of 256 random bits, which no one can guess or find in a list of passwords."""
    # The prefix lets secret scanners recognize a key.
    return f"easel_{secrets.token_urlsafe(32)}"


def key_entry(name: str, key: str) -> dict[str, Any]:
    """Return the gateway's entry for a key; it has the key's hash, never the key itself."""
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}


def read_keys(file: Path) -> list[dict[str, Any]]:
    """Return the entries in a file of keys.

    Raises:
        ScriptError: if the file cannot be read, or has other content than entries.
    """
    try:
        # Editors on Windows begin a file with a byte order mark.
        entries = json.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ScriptError(f"{file} cannot be read: {error}", _ADVICE) from error
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise ScriptError(f"{file} is not a list of keys with a name and a SHA-256 each.", _ADVICE)
    return entries


_ADVICE = "Create it with `python -m endpoint create-key NAME`."


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and {"name", "sha256"} <= set(entry) <= {"name", "sha256", "per_minute", "expires"}
        and bool(re.fullmatch(r"[0-9a-f]{64}", str(entry["sha256"])))
    )


def _key_entries(options: AccessOptions, before: Mapping[str, str]) -> list[dict[str, Any]]:
    if options.open:
        return []
    if options.keys is not None:
        return read_keys(options.keys)
    # The previous deployment's smoke-test key has expired or is about to.
    deployed: list[dict[str, Any]] = json.loads(before.get("EASEL_API_KEYS", "[]"))
    return [entry for entry in deployed if entry["name"] != _SMOKE]


def _secret(before: str, *, new: bool) -> str:
    """Return the secrets: the first signs, and the previous one still verifies after a change."""
    if before and not new:
        return before
    return ",".join([secrets.token_urlsafe(32), *before.split(",")[:1]]).rstrip(",")


def _per_minute(number: int | None) -> str | None:
    # The gateway reads `off` as no limit, where the option has 0.
    return None if number is None else str(number) if number else "off"
