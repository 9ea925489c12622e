"""What a run costs its caller, just before it starts: one use of a rate limit, one of a link.

Nothing else is counted. A picture that exists already, in S3 or in a cache, costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from chalicelib.access_settings import Protection
from chalicelib.auth.link_quota import LinkQuota
from chalicelib.auth.rate_limit import RateLimiter, client_of
from chalicelib.aws.s3 import Store
from chalicelib.errors import StoreUnavailable, Unauthorized
from chalicelib.web.principal import ANONYMOUS, AuthMethod, Principal


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
        headers: report to the caller what is left.
    """

    principal: Principal = ANONYMOUS
    address: str = ""
    pictures: set[str] = field(default_factory=set)
    headers: dict[str, str] = field(default_factory=dict)


class Quota:
    """Charges callers for runs.

    Args:
        protection: the gateway's.
        stores: used only for links with a quota.
    """

    def __init__(self, protection: Protection, stores: Stores) -> None:
        self._protection = protection
        self._stores = stores
        self._limiter = RateLimiter()

    def spend(self, payment: Payment, picture: str) -> None:
        """Charge a request for a picture; once, however often its run is tried.

        Args:
            payment: the request's.
            picture: the id of the resolved request.

        Raises:
            RateLimited: if the caller's limit is reached, or the link's quota is used up.
            Unauthorized: if the caller has access to another picture only.
            StoreUnavailable: if S3 does not confirm the use.
        """
        if picture in payment.pictures:
            return
        principal = payment.principal
        if principal.method is AuthMethod.PICTURE and principal.picture != picture:
            raise Unauthorized("This link is for another picture.")
        per_minute = self._per_minute(principal)
        # The rate limit is first: it costs no call to S3.
        if per_minute is not None:
            payment.headers.update(self._limiter.take(_payer(payment), per_minute))
        if principal.link is not None and principal.link.pictures is not None:
            left = self._link_quota().spend(principal.link, picture)
            payment.headers["X-Link-Pictures-Left"] = str(left)
        # Only now: a use that was refused must not be refunded.
        payment.pictures.add(picture)

    def refund(self, payment: Payment, picture: str) -> None:
        """Undo a link's use, if it was charged, for a picture that never reached a GPU."""
        if picture not in payment.pictures:
            return
        payment.pictures.discard(picture)
        link = payment.principal.link
        if link is None or link.pictures is None:
            return
        try:
            self._link_quota().refund(link, picture)
        except StoreUnavailable:
            return  # the same picture can be requested again at no further cost

    def _per_minute(self, principal: Principal) -> int | None:
        if principal.method is AuthMethod.KEY and principal.key is not None:
            return principal.key.per_minute
        return self._protection.per_minute

    def _link_quota(self) -> LinkQuota:
        if self._protection.accounts is None:
            # The setting was there when the link was made.
            raise StoreUnavailable("This link's pictures cannot be counted at the moment.")
        return LinkQuota(self._stores(*self._protection.accounts))


def _payer(payment: Payment) -> str:
    principal = payment.principal
    if principal.method is AuthMethod.KEY and principal.key is not None:
        return f"key {principal.key.name}"
    return client_of(payment.address)
