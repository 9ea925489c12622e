"""Who can use a deployed gateway, and how much: from options to environment variables.

A setting without an option keeps its deployed value. That matters most for the keys and the secret,
which are stored nowhere but in the function's own environment.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from endpoint.cli.options import AccessOptions
from endpoint.core.problems import BadArgument
from endpoint.provision.settings_check import check_gateway

# Shared with CloudFront, where that is in front of the gateway.
CDN = "EASEL_CDN_SECRET"
# The temporary key of the smoke test, where keys are required; it is never printed.
_SMOKE = "easel-smoke-test"
_SMOKE_HOURS = 1
_DEFAULTS = {"EASEL_PICTURES_PER_MINUTE": "20", "EASEL_PROMPT_FILTER": "refuse"}
# A gateway that has nothing but keys, for the reader of a file of keys.
_WITH_KEYS = {
    "EASEL_MODELS": '{"sd": {"endpoint": "e", "usd_per_hour": 1}}',
    "EASEL_SECRET": 32 * "x",
    "EASEL_USAGE": "s3://easel-main/usage/",
}
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
        BadArgument: if the file of keys cannot be used, or nothing says who may use the gateway.
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
    if options.cdn or (options.cdn is None and CDN in before):
        variables[CDN] = before.get(CDN) or secrets.token_urlsafe(32)
    variables["EASEL_LINKS"] = f"s3://{bucket}/links/"
    variables["EASEL_USAGE"] = f"s3://{bucket}/usage/"
    variables["EASEL_BATCHES"] = f"s3://{bucket}/"
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


def read_keys(
    file: Path, advice: str = "Create it with `python -m endpoint create-key NAME`."
) -> list[dict[str, Any]]:
    """Return the entries in a file of keys.

    Args:
        file: has been written by `create-key`.
        advice: what to do if it cannot be read.

    Raises:
        BadArgument: if the file cannot be read, or has an entry that the gateway cannot read.
    """
    try:
        # Editors on Windows put a byte order mark before the text.
        entries = json.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadArgument(f"{file} cannot be read: {reason}", advice) from error
    check_keys(entries, str(file))
    listed: list[dict[str, Any]] = entries
    return listed


def check_keys(entries: Any, called: str) -> None:
    """Have the gateway read entries.

    Args:
        entries: any JSON value.
        called: what the operator calls them.

    Raises:
        BadArgument: if the gateway cannot read them, or one has the smoke test's name.
    """
    variables = {**_WITH_KEYS, "EASEL_API_KEYS": json.dumps(entries)}
    check_gateway(variables, names={"EASEL_API_KEYS": called})
    if any(entry["name"] == _SMOKE for entry in entries):
        raise BadArgument(f"{called} has a key named {_SMOKE}, the name of deploy's own key.")


def requires_keys(variables: Mapping[str, str]) -> bool:
    """Whether a gateway with these variables answers nobody without a key."""
    return variables.get("EASEL_API_KEYS", "[]").strip() != "[]"


def _key_entries(options: AccessOptions, before: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the keys to deploy; none of them only where --open, or an open gateway, says so."""
    if options.open and options.keys is not None:
        raise BadArgument("--keys requires a key and --open requires none: pass one of them.")
    if options.open or (options.keys is None and not requires_keys(before)):
        return []
    if options.keys is not None:
        entries = read_keys(options.keys)
        if not entries:
            raise BadArgument(
                f"{options.keys} has no key, so nobody could generate a picture.",
                "Add one with `python -m endpoint create-key NAME`; or pass --open instead of"
                " --keys, and everybody can, without a key.",
            )
        return entries
    try:
        deployed = json.loads(before["EASEL_API_KEYS"])
        # The previous deployment's smoke-test key has expired or is about to.
        entries = [entry for entry in deployed if entry["name"] != _SMOKE]
    except (ValueError, KeyError, TypeError, RecursionError):
        entries = []
    if not entries:
        raise BadArgument(
            "The deployed gateway requires a key, but has none that could be kept.",
            "Pass --keys FILE; or --open, and everybody can generate pictures without a key.",
        )
    return entries


def _secret(before: str, *, new: bool) -> str:
    """Return the secrets: the first signs, and the previous one still verifies after a change."""
    if before and not new:
        return before
    return ",".join([secrets.token_urlsafe(32), *before.split(",")[:1]]).rstrip(",")


def _per_minute(number: int | None) -> str | None:
    # The gateway reads `off` as no limit, where the option has 0.
    return None if number is None else str(number) if number else "off"
