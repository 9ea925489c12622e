"""What a run costs its caller, just before it starts: one use of a rate limit, one of a link.

Nothing else is counted. A picture that exists already, in S3 or in a cache, costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from chalicelib.access_settings import Protection
from chalicelib.auth.authenticate import PICTURE_SECONDS
from chalicelib.auth.link_quota import RUNS_PER_PICTURE, LinkQuota
from chalicelib.auth.rate_limit import RateLimiter, client_of
from chalicelib.aws.deadline import ending
from chalicelib.aws.s3 import Store
from chalicelib.errors import RateLimited, StoreUnavailable
from chalicelib.web.principal import ANONYMOUS, AuthMethod, Link, Principal

_LEFT = "X-Link-Pictures-Left"


class Stores(Protocol):
    """Provides the part of S3 below a prefix."""

    def __call__(self, bucket: str, prefix: str) -> Store:
        """Return it."""


@dataclass
class Payment:
    """What one request has paid for.

    Attributes:
        principal: pays.
        address: the IP address, which identifies a caller without a key.
        pictures: the ids of the pictures that are paid for.
        counted: the ids of the pictures that the rate limits have counted.
        headers: report to the caller what is left, and what the pictures cost.
        costs: of the pictures, in dollars.
    """

    principal: Principal = ANONYMOUS
    address: str = ""
    pictures: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)
    headers: dict[str, str] = field(default_factory=dict)
    costs: list[float] = field(default_factory=list)


class Quota:
    """Charges callers for runs.

    Args:
        protection: the gateway's.
        stores: used only for links with a quota, and for the URLs of single pictures.
    """

    def __init__(self, protection: Protection, stores: Stores) -> None:
        self._protection = protection
        self._stores = stores
        self._limiter = RateLimiter()
        # Such a URL is valid for less than this, so no more runs than these are ever possible.
        self._picture_runs = RateLimiter(window=PICTURE_SECONDS)

    def check(self, payment: Payment, picture: str) -> None:
        """Raise what `spend` would raise, and charge nothing."""
        if picture in payment.pictures:
            return
        if picture not in payment.counted:
            for client, per_minute in self._limits(payment):
                self._limiter.check(client, per_minute)
        if (link := _quota_of(payment.principal)) is None:
            return
        if self._counts_in_memory(payment.principal):
            with _as_often_as_allowed():
                self._picture_runs.check(link.id, RUNS_PER_PICTURE)
        else:
            self._link_quota().check(link, _counted_as(payment.principal, picture))

    def spend(self, payment: Payment, picture: str) -> bool:
        """Charge a request for a picture; once, however often its run is tried.

        Args:
            payment: the request's.
            picture: the id of the resolved request.

        Returns:
            Whether it was charged now, and not before.

        Raises:
            RateLimited: if the caller's limit is reached, or the link's quota is used up.
            StoreUnavailable: if S3 does not confirm the use.
        """
        if picture in payment.pictures:
            return False
        # The rate limits are first: they cost no call to S3.
        if picture not in payment.counted:
            headers = [self._limiter.take(*limit) for limit in self._limits(payment)]
            # The caller's own limit, not what the key's other callers have left of theirs.
            payment.headers.update(headers[0] if headers else {})
            payment.counted.add(picture)
        self._spend_quota(payment, picture)
        # Only now: a use that was refused must not be refunded.
        payment.pictures.add(picture)
        return True

    def refund(self, payment: Payment, picture: str) -> None:
        """Undo a link's use, if it was charged, for a picture that never reached a GPU."""
        if picture not in payment.pictures:
            return
        payment.pictures.discard(picture)
        payment.headers.pop(_LEFT, None)
        link = _quota_of(payment.principal)
        if link is None or self._counts_in_memory(payment.principal):
            return
        try:
            with ending():
                self._link_quota().refund(link, _counted_as(payment.principal, picture))
        except StoreUnavailable:
            return  # the same picture can be requested again at no further cost

    def _spend_quota(self, payment: Payment, picture: str) -> None:
        principal = payment.principal
        if (link := _quota_of(principal)) is None:
            return
        if self._counts_in_memory(principal):
            with _as_often_as_allowed():
                self._picture_runs.take(link.id, RUNS_PER_PICTURE)
            return
        left = self._link_quota().spend(link, _counted_as(principal, picture))
        if principal.link is not None:
            payment.headers[_LEFT] = str(left)

    def _limits(self, payment: Payment) -> list[tuple[str, int]]:
        """Return who is counted, with the pictures a minute: the caller first, then its key.

        What a key hands out, links and the URLs of pictures, counts for that key as well: it could
        be used to paint without limit otherwise. The caller comes first, so that one who is refused
        anyway uses up nothing of the key's.
        """
        principal, limits = payment.principal, []
        if principal.method is not AuthMethod.KEY and self._protection.per_minute is not None:
            limits.append((client_of(payment.address), self._protection.per_minute))
        if principal.key is not None and principal.key.per_minute is not None:
            limits.append((f"key {principal.key.name}", principal.key.per_minute))
        return limits

    def _counts_in_memory(self, principal: Principal) -> bool:
        """Whether a picture's URL has no bucket to be counted in: then each instance counts."""
        return principal.method is AuthMethod.PICTURE and self._protection.accounts is None

    def _link_quota(self) -> LinkQuota:
        if self._protection.accounts is None:
            # The setting was there when the link was made.
            raise StoreUnavailable("This link's pictures cannot be counted at the moment.")
        return LinkQuota(self._stores(*self._protection.accounts))


def _quota_of(principal: Principal) -> Link | None:
    """Return what has a quota: a link, or the URL of one picture; None if nothing is counted."""
    counted = principal.counted
    return None if counted is None or counted.pictures is None else counted


def _counted_as(principal: Principal, picture: str) -> str:
    """Return what a use is counted for: the picture that a URL names, or the requested one.

    Without a seed the id is another one for each request, though the URL stays the same.
    """
    return principal.picture or picture


@contextmanager
def _as_often_as_allowed() -> Iterator[None]:
    """Say of the limit what it is for: it is not one of pictures per minute."""
    try:
        yield
    except RateLimited as error:
        message = "This link has generated this picture as often as allowed."
        raise RateLimited(message, error.retry_after or 1) from error
