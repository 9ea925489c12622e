"""Who a visitor is, once the door has let them in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What let a visitor in."""

    OPEN = "open"  # no keys are configured: everybody may paint
    KEY = "key"
    LINK = "link"
    PICTURE = "picture"  # an address of one picture, given to somebody who had a key


@dataclass(frozen=True)
class Key:
    """A key of `EASEL_API_KEYS`.

    Attributes:
        name: what the log and the links made with it call it; no secret.
        digest: SHA-256 of the key.
        per_minute: how many pictures it may ask for in a minute; None for any number.
        expires: seconds since 1970; None for never.
    """

    name: str
    digest: bytes
    per_minute: int | None = None
    expires: float | None = None


@dataclass(frozen=True)
class Link:
    """A signed link.

    Attributes:
        id: names its account of pictures.
        expires: seconds since 1970.
        pictures: how many it is good for; None for any number until it expires.
    """

    id: str
    expires: int
    pictures: int | None = None


@dataclass(frozen=True)
class Guest:
    """A visitor who may paint.

    Attributes:
        key: the visitor's own, or the one that the link was made with.
        picture: the id of the one picture that a visitor of kind PICTURE may have.
    """

    kind: Kind
    key: Key | None = None
    link: Link | None = None
    picture: str | None = None


ANYBODY = Guest(Kind.OPEN)
