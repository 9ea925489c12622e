"""What a visitor pays with just before a model is asked: a place in the minute, a link's picture.

Nothing else is counted. What exists already, in S3 or in a cache, costs nobody anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from chalicelib.access_settings import Protection
from chalicelib.auth.link_quota import Ledger
from chalicelib.auth.rate_limit import Limits, visitor_of
from chalicelib.aws.s3 import Store
from chalicelib.errors import (
    EndpointBusy,
    EndpointForbidden,
    EndpointMissing,
    EndpointUnreachable,
    InvalidRequest,
    StoreUnavailable,
    Unauthorized,
)
from chalicelib.web.principal import Guest, Kind
from chalicelib.web.request import Visit

# After these no GPU has seen the request: it was refused on the way, or by the container's check.
_NEVER_PAINTED = (
    EndpointBusy,
    EndpointForbidden,
    EndpointMissing,
    EndpointUnreachable,
    InvalidRequest,
)


class Stores(Protocol):
    """Gives the part of S3 below a prefix."""

    def __call__(self, bucket: str, prefix: str) -> Store:
        """Return it."""


class Allowance:
    """Takes payment from visitors.

    Args:
        protection: the gateway's.
        stores: asked only for links with a number of pictures.
    """

    def __init__(self, protection: Protection, stores: Stores) -> None:
        self._protection = protection
        self._stores = stores
        self._limits = Limits()

    def spend(self, visit: Visit, picture: str) -> None:
        """Let a visit pay for a picture; once, whatever is tried for it.

        Raises:
            RateLimited: if the visitor has none left for now, or the link has none left at all.
            Unauthorized: if the visitor's address is that of another picture.
            StoreUnavailable: if nobody can tell.
        """
        if picture in visit.paid:
            return
        guest = visit.guest
        if guest.kind is Kind.PICTURE and guest.picture != picture:
            raise Unauthorized("This link is for another picture.")
        per_minute = self._per_minute(guest)
        if per_minute is not None:
            visit.remarks.update(self._limits.take(_payer(visit), per_minute))
        if guest.link is not None and guest.link.pictures is not None:
            left = self._ledger().spend(guest.link, picture)
            visit.remarks["X-Link-Pictures-Left"] = str(left)
        visit.paid.add(picture)

    @contextmanager
    def refunding(self, visit: Visit, picture: str, last_try: bool = True) -> Iterator[None]:
        """Give a link's picture back if what happens inside certainly never reached a GPU.

        What is not the visit's last try keeps it: the next one is paid for already.
        """
        try:
            yield
        except _NEVER_PAINTED:
            if last_try and picture in visit.paid:
                visit.paid.discard(picture)
                self._give_back(visit, picture)
            raise

    def _give_back(self, visit: Visit, picture: str) -> None:
        link = visit.guest.link
        if link is None or link.pictures is None:
            return
        try:
            self._ledger().give_back(link, picture)
        except StoreUnavailable:
            return  # asking for the same picture again costs nothing more

    def _per_minute(self, guest: Guest) -> int | None:
        if guest.kind is Kind.KEY and guest.key is not None:
            return guest.key.per_minute
        return self._protection.per_minute

    def _ledger(self) -> Ledger:
        if self._protection.accounts is None:
            # The setting was there when the link was made.
            raise StoreUnavailable("This link's pictures cannot be counted at the moment.")
        return Ledger(self._stores(*self._protection.accounts))


def _payer(visit: Visit) -> str:
    guest = visit.guest
    if guest.kind is Kind.KEY and guest.key is not None:
        return f"key {guest.key.name}"
    return visitor_of(visit.address)
