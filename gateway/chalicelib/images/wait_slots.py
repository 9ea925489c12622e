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
from collections.abc import Callable

from chalicelib.aws.s3 import Store
from chalicelib.errors import StoreUnavailable, TooManyWaiting

# Longer than any visit: API Gateway gives up at 29 s.
_LEASE = 40.0
_TRIES = 6


class Waiters:
    """At most `most` places."""

    def __init__(self, store: Store, most: int, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._most = most
        self._now = now

    def place(self, picture: str) -> Place:
        """Return a place that is taken when its `take` is called, and left with its context.

        Args:
            picture: names what is waited for.
        """
        return Place(self, picture)

    def take(self, picture: str) -> str:
        """Take a place and return its name.

        A few places are tried, in random order: when nearly all are taken, a visitor may be sent
        away although one is free. Whose time is over is asked only where none of them is free.

        Raises:
            TooManyWaiting: if those that were tried are taken.
        """
        own = self._places_of(picture)
        keys = [f"waiting/{number}" for number in random.sample(own, min(_TRIES, len(own)))]
        for take in (self._occupy, self._inherit):
            for key in keys:
                if take(key):
                    return key
        raise TooManyWaiting("As many visitors wait for pictures as this gateway lets wait.")

    def leave(self, key: str) -> None:
        """Let somebody else have the place."""
        try:
            self._store.delete(key)
        except StoreUnavailable:
            return  # it is free again when its time is over

    def _places_of(self, picture: str) -> list[int]:
        """Return the same half of the places each time, but as many as are tried at least."""
        count = max(self._most // 2, min(_TRIES, self._most))
        return random.Random(picture).sample(range(self._most), count)  # noqa: S311 - no secret

    def _occupy(self, key: str) -> bool:
        return self._store.create(key, self._until()) is not None

    def _inherit(self, key: str) -> bool:
        """Take a place whose owner's time is over."""
        found = self._store.read(key)
        if found is None or float(found.body) > self._now():
            return False
        return self._store.replace(key, self._until(), found.tag) is not None

    def _until(self) -> bytes:
        return str(self._now() + _LEASE).encode()


class Place:
    """One visitor's place, once it is taken; left when the context ends."""

    def __init__(self, waiters: Waiters, picture: str) -> None:
        self._waiters, self._picture = waiters, picture
        self._key: str | None = None

    def take(self) -> None:
        """Take a place, unless there is one already; raises TooManyWaiting if there is none."""
        if self._key is None:
            self._key = self._waiters.take(self._picture)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        if self._key is not None:
            self._waiters.leave(self._key)
