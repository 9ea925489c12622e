"""How many requests wait at once: a number of slots in S3, each taken by writing an object.

A request that waits keeps a Lambda busy, and an account has a limited number of them. Without a
database, a slot is an object that is written only if it does not exist; one whose owner died is
free again after `_LEASE` seconds.

Requests for one picture can take only half of the slots, and the picture decides which half: so a
crowd that wants one picture leaves slots for other pictures (shuffle sharding,
https://aws.amazon.com/builders-library/workload-isolation-using-shuffle-sharding/).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from chalicelib.aws.deadline import ending
from chalicelib.aws.s3 import Store
from chalicelib.errors import StoreUnavailable, TooManyWaiting

# Longer than any request: API Gateway gives up at 29 s.
_LEASE = 40.0
_TRIES = 6


class ConcurrencyLimiter:
    """Limits the number of requests that wait.

    Args:
        store: a part of a bucket, shared by all Lambdas.
        most: the number of slots.
        now: seconds since 1970.
    """

    def __init__(self, store: Store, most: int, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._most = most
        self._now = now

    def slot(self) -> Slot:
        """Return a slot that is taken when its `take` is called, and released with its context."""
        return Slot(self)

    def take(self, picture: str) -> str:
        """Take a slot and return its key.

        A few slots are tried, in random order: when nearly all are taken, a request may be refused
        although one is free. Leases are read only if none of them is free.

        Raises:
            TooManyWaiting: if the slots that were tried are taken.
        """
        # Trying all slots would cost as many calls to S3.
        own = self._slots_of(picture)
        keys = [f"waiting/{number}" for number in random.sample(own, min(_TRIES, len(own)))]
        for take in (self._take_free, self._take_expired):
            for key in keys:
                if take(key):
                    return key
        raise TooManyWaiting("Too many requests are waiting for pictures.")

    def release(self, key: str) -> None:
        """Free a slot for another request."""
        try:
            with ending():
                self._store.delete(key)
        except StoreUnavailable:
            return  # it is free again when its lease ends

    def _slots_of(self, picture: str) -> list[int]:
        """Return the same half of the slots each time, but at least as many as are tried."""
        count = max(self._most // 2, min(_TRIES, self._most))
        # A text as the seed gives the same numbers in every process, unlike `hash`.
        return random.Random(picture).sample(range(self._most), count)  # noqa: S311 - no secret

    def _take_free(self, key: str) -> bool:
        return self._store.create(key, self._lease()) is not None

    def _take_expired(self, key: str) -> bool:
        # Only the reader of this version can replace it, so two requests cannot both inherit it.
        lease = self._store.read(key)
        if lease is None or float(lease.body) > self._now():
            return False
        return self._store.replace(key, self._lease(), lease.tag) is not None

    def _lease(self) -> bytes:
        return str(self._now() + _LEASE).encode()


class Slot:
    """The slot of one request, once it is taken; released when the context ends."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter
        self._key: str | None = None

    def take(self, picture: str) -> None:
        """Take a slot, unless this request has one; raises TooManyWaiting if there is none.

        Args:
            picture: the id of the picture that is waited for.
        """
        if self._key is None:
            self._key = self._limiter.take(picture)

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        if self._key is not None:
            self._limiter.release(self._key)
