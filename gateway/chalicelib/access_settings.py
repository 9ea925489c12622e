"""The settings that protect the GPU from the Internet: keys, limits, filter and CORS."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# The name is logged and is part of tokens: no spaces and no control characters.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# As browsers send it: in lower case, without a path. A DNS name has at most 253 characters.
_ORIGIN = re.compile(r"https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?")
_DEFAULT_PORT = re.compile(r"(?<=^http:)(//.*):80$|(?<=^https:)(//.*):443$")
# Bucket names: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
PLACE = re.compile(r"s3://([a-z0-9.-]{3,63})/((?:[A-Za-z0-9._-]+/)*)")
# The length of SHA-256's output; RFC 2104 discourages shorter keys of an HMAC.
_SHORTEST_SECRET = 32
_MOST_PER_MINUTE = 1_000
_LEAST_USD, _MOST_USD = 0.01, 1_000_000
FILTER_MODES = ("off", "warn", "refuse")

# Reads a variable: takes its name, its cast, an example, and its default.
Read = Callable[..., Any]


@dataclass(frozen=True)
class Key:
    """A key of `EASEL_API_KEYS`.

    Attributes:
        name: identifies the key in the log and in links; not a secret.
        digest: SHA-256 of the key.
        per_minute: the number of pictures that it can request in a minute; None for no limit.
        expires: seconds since 1970; None for never.
        usd_per_month: what its pictures, and those of its links, can cost in a month; None for no
            limit.
        owner: whether it can see what all keys use.
    """

    name: str
    digest: bytes
    per_minute: int | None = None
    expires: float | None = None
    usd_per_month: float | None = None
    owner: bool = False


@dataclass(frozen=True)
class Protection:
    """Keys, links, limits, the prompt filter, and the sites whose scripts can read responses.

    Attributes:
        keys: one is required of every caller; without any, the gateway is open.
        secrets: sign sessions and links: the first signs, all of them verify.
        accounts: bucket and prefix in S3 where the pictures of links are counted.
        per_minute: the number of pictures that a client without a key can request in a minute.
        filter_mode: off, warn or refuse.
        filter_words: words to refuse in addition to the list; a leading minus allows one instead.
        origins: sites whose scripts can use this gateway; `*` for any.
        cdn: the secret with which the CDN in front of this gateway proves itself; None without one.
    """

    keys: tuple[Key, ...] = ()
    secrets: tuple[bytes, ...] = ()
    accounts: tuple[str, str] | None = None
    per_minute: int | None = None
    filter_mode: str = "off"
    filter_words: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    cdn: bytes | None = None

    @classmethod
    def read(cls, read: Read) -> Protection:
        """Read every variable; `read` raises BadSetting for the first that is invalid."""
        keys = read("EASEL_API_KEYS", _keys, '[{"name": "ada", "sha256": "..."}]', default="[]")
        # Without keys there are no sessions and no links to sign.
        secret = None if keys else ""
        return cls(
            keys=keys,
            secrets=read("EASEL_SECRET", _secrets, "at least 32 random characters", default=secret),
            accounts=read("EASEL_LINKS", read_place, "s3://easel-main/links/", default=""),
            per_minute=read("EASEL_PICTURES_PER_MINUTE", _per_minute, "20", default="off"),
            filter_mode=read("EASEL_PROMPT_FILTER", _mode, "refuse", default="off"),
            filter_words=read("EASEL_PROMPT_FILTER_WORDS", _words, "foo, -bar", default=""),
            origins=read("EASEL_CORS_ORIGINS", _origins, "https://example.org", default=""),
            cdn=read("EASEL_CDN_SECRET", _cdn, "at least 32 random characters", default=""),
        )


def _keys(text: str) -> tuple[Key, ...]:
    entries = json.loads(text)
    if not isinstance(entries, list):
        raise ValueError("is not a list")
    keys = tuple(_key(entry) for entry in entries)
    # Tokens are bound to the name of a key, so names must be unique.
    if len({key.name for key in keys}) != len(keys):
        raise ValueError("two keys have one name")
    return keys


def _key(entry: Any) -> Key:
    if not isinstance(entry, dict):
        raise TypeError("a key is an object")
    name, digest = entry["name"], entry["sha256"]
    if not isinstance(name, str) or not isinstance(digest, str):
        raise TypeError("the name and the sha256 of a key are text")
    unknown = set(entry) - {"name", "sha256", "per_minute", "expires", "usd_per_month", "owner"}
    # A misspelled `expires` or `per_minute` must not make a key without a limit.
    if unknown or not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
        raise ValueError(
            "a key needs a name of letters, digits, dots and dashes, the SHA-256 in hexadecimal,"
            " and nothing unknown"
        )
    per_minute, expires = entry.get("per_minute"), entry.get("expires")
    budget, owner = entry.get("usd_per_month"), entry.get("owner", False)
    if not isinstance(owner, bool):
        raise TypeError("the owner of a key is true or false")
    return Key(
        name,
        bytes.fromhex(digest),
        None if per_minute is None else _count(per_minute),
        # Only a missing date means for ever: an empty one is a mistake.
        None if expires is None else _moment(expires),
        None if budget is None else _dollars(budget),
        owner,
    )


def _moment(text: str) -> float:
    """Read a time of ISO 8601, in UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{text!r} is no date such as 2027-01-01") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _secrets(text: str) -> tuple[bytes, ...]:
    secrets = tuple(part.strip().encode() for part in text.split(",") if part.strip())
    if any(len(secret) < _SHORTEST_SECRET for secret in secrets):
        # The value itself must not reach the log.
        raise ValueError("one is shorter than 32 characters")
    return secrets


def _cdn(text: str) -> bytes | None:
    # A comma, which separates the secrets of EASEL_SECRET, is like any other character here.
    if text and len(text) < _SHORTEST_SECRET:
        raise ValueError("it is shorter than 32 characters")
    return text.encode() or None


def read_place(text: str) -> tuple[str, str] | None:
    """Return bucket and prefix of an `s3://` address, None for no text; raises ValueError."""
    if not text:
        return None
    place = PLACE.fullmatch(text)
    if place is None:
        raise ValueError("is not s3://bucket/prefix/")
    return place[1], place[2]


def _per_minute(text: str) -> int | None:
    return None if text == "off" else _count(int(text))


def _count(number: object) -> int:
    # JSON's true is Python's True, which is an int.
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError("a limit is a whole number")
    if not 1 <= number <= _MOST_PER_MINUTE:
        raise ValueError(f"a limit is from 1 to {_MOST_PER_MINUTE:,}")
    return number


def _dollars(number: object) -> float:
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise ValueError("usd_per_month is a number")
    # NaN is in no range.
    if not _LEAST_USD <= number <= _MOST_USD:
        raise ValueError(f"usd_per_month is from {_LEAST_USD} to {_MOST_USD:,}")
    return float(number)


def _mode(text: str) -> str:
    if text not in FILTER_MODES:
        raise ValueError(f"one of {', '.join(FILTER_MODES)}")
    return text


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        plain = unicodedata.normalize("NFKD", word).casefold()
        # Nothing would be left of the word, and so it would be found in every prompt.
        if not any(each.isascii() and each.isalnum() for each in plain):
            raise ValueError(f"{word!r} has no Latin letter or digit, which is what is compared")
    return words


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(_origin(origin.strip()) for origin in text.split(",") if origin.strip())
    # A path or a wildcard inside an origin would never match, and protects nobody.
    if origins != ("*",) and not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("origins look like https://example.org, without a path; or * alone")
    return origins


def _origin(text: str) -> str:
    """Spell an origin as browsers send it: lower case, no slash, no port that its scheme has."""
    return _DEFAULT_PORT.sub(r"\1\2", text.lower().removesuffix("/"))
