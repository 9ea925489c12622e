"""How many visitors wait at once: a number of places in S3, each taken by writing an object.

A visitor who waits keeps a Lambda busy, and an account has only so many. Without a database, a
place is an object that is written only if it is not there; one whose owner died is free again after
`_LEASE` seconds.

Who waits for a picture may take only half of the places, which half depends on the picture: so a
crowd that wants one picture leaves places for those who want others (shuffle sharding,
https://aws.amazon.com/builders-library/workload-isolation-using-shuffle-sharding/).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chalicelib.errors import StoreUnavailable, TooManyWaiting
from chalicelib.store import Store

# Longer than any visit: API Gateway gives up at 29 s.
_LEASE = 40.0
_TRIES = 6


class Waiters:
    """At most `most` places."""

    def __init__(self, store: Store, most: int, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._most = most
        self._now = now

    @contextmanager
    def place(self, picture: str) -> Iterator[None]:
        """Hold a place while the context lasts.

        A few places are tried, in random order: when nearly all are taken, a visitor may be sent
        away although one is free.

        Args:
            picture: names what is waited for.

        Raises:
            TooManyWaiting: if those that were tried are taken.
        """
        key = self._take(picture)
        try:
            yield
        finally:
            self._leave(key)

    def _take(self, picture: str) -> str:
        own = self._places_of(picture)
        for number in random.sample(own, min(_TRIES, len(own))):
            key = f"waiting/{number}"
            if self._store.create(key, self._until()) is not None or self._inherit(key):
                return key
        raise TooManyWaiting("As many visitors wait for pictures as this gateway lets wait.")

    def _places_of(self, picture: str) -> list[int]:
        """Return the same half of the places each time, but as many as are tried at least."""
        count = max(self._most // 2, min(_TRIES, self._most))
        return random.Random(picture).sample(range(self._most), count)  # noqa: S311 - no secret

    def _inherit(self, key: str) -> bool:
        """Take a place whose owner's time is over."""
        found = self._store.read(key)
        if found is None or float(found.body) > self._now():
            return False
        return self._store.replace(key, self._until(), found.tag) is not None

    def _until(self) -> bytes:
        return str(self._now() + _LEASE).encode()

    def _leave(self, key: str) -> None:
        try:
            self._store.delete(key)
        except StoreUnavailable:
            return  # it is free again when its time is over
