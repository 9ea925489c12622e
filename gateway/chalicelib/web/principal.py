"""Who sent a request, as authentication found out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chalicelib.access_settings import Key


class AuthMethod(StrEnum):
    """How a request was authenticated."""

    OPEN = "open"  # no keys are configured: every caller can generate pictures
    KEY = "key"
    LINK = "link"
    PICTURE = "picture"  # the URL of one picture, which a caller with a key passed on


@dataclass(frozen=True)
class Link:
    """A signed link.

    Attributes:
        id: identifies its quota in S3.
        expires: seconds since 1970.
        pictures: its quota; None for no limit until it expires.
    """

    id: str
    expires: int
    pictures: int | None = None


@dataclass(frozen=True)
class Principal:
    """The sender of an authenticated request.

    Attributes:
        method: how the request was authenticated.
        key: the caller's own key, or the one that the link was made with.
        link: the signed link of a caller without a key.
        picture: the id of the one picture that `AuthMethod.PICTURE` gives access to.
        counted: what its pictures are counted for: the link, or the URL of the one picture, which
            is worth a link for one; None for a caller with a key.
    """

    method: AuthMethod
    key: Key | None = None
    link: Link | None = None
    picture: str | None = None
    counted: Link | None = None

    @property
    def own_key(self) -> Key | None:
        """The key of a caller that has presented it; None for a link, and without keys."""
        return self.key if self.method is AuthMethod.KEY else None


ANONYMOUS = Principal(AuthMethod.OPEN)
