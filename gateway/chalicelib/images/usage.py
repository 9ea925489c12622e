"""What was used: the records and the budgets of the meter, read for those that may see them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime

from chalicelib.access_settings import Key
from chalicelib.auth.budget import Account, budgets_in
from chalicelib.auth.quota import Stores
from chalicelib.aws.parallel import in_parallel
from chalicelib.aws.s3 import Store
from chalicelib.usage_days import Row, rows_of


class Usage:
    """What was used.

    Args:
        place: bucket and prefix of all that the meter writes.
        stores: provides it.
        now: seconds since 1970.
    """

    def __init__(
        self, place: tuple[str, str], stores: Stores, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = _Folder(stores(*place))
        self._budgets = budgets_in(place, stores, now)
        self._now = now

    @property
    def today(self) -> date:
        """The day in UTC."""
        return self._moment.date()

    def rows(self, days: Sequence[date]) -> list[Row]:
        """Return what all keys used on days; raises StoreUnavailable."""
        now = self._moment
        # A day is a call to S3, or more until its first reader has summed it up.
        parts = in_parallel(lambda day: rows_of(self._folder, day, now), days)
        return [row for part in parts for row in part]

    def accounts(self, keys: Sequence[Key]) -> tuple[Account, ...]:
        """Return what keys have spent of their budgets this month; raises StoreUnavailable."""
        return in_parallel(self._budgets.account, keys)

    @property
    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)


class _Folder:
    """A store, as the reader of days uses it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keys(self, start: str) -> Iterable[str]:
        return [one.key for one in self._store.listed(start)]

    def read(self, key: str) -> bytes | None:
        stored = self._store.read(key)
        return None if stored is None else stored.body

    def create(self, key: str, body: bytes) -> object:
        return self._store.create(key, body)
