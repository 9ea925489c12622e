"""How many attempts an owner has started in a month; this is also the index of the owner's jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from chalicelib.aws.s3 import Store
from chalicelib.errors import StoreUnavailable, TrainingQuotaUsed
from chalicelib.training.claims import read_object
from chalicelib.training_jobs import places

# The operator and the user of a laptop pay for themselves.
_UNLIMITED = {places.OPERATOR, places.LOCAL}
_TRIES = 5
_MOST_LISTED = 1_000  # of the objects of an owner, one for each month


class Months:
    """The months of all owners, in UTC.

    Args:
        store: the whole bucket.
        most: the attempts that an owner can start in a month.
        now: seconds since 1970.
    """

    def __init__(self, store: Store, most: int, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._most = most
        self._now = now

    def check(self, owner: str) -> None:
        """Raise TrainingQuotaUsed if the owner can start no other attempt this month."""
        self._check(owner, self._read(self._key(owner))[0])

    def count(self, owner: str, attempt: str) -> None:
        """Count an attempt, once.

        Raises:
            TrainingQuotaUsed: if there are as many as allowed already.
        """

        def counted(attempts: list[str]) -> list[str]:
            if attempt in attempts:
                return attempts
            self._check(owner, attempts)
            return [*attempts, attempt]

        self._change(self._key(owner), counted)

    def uncount(self, owner: str, attempt: str) -> None:
        """Take back the count of an attempt that was never started."""
        self._change(self._key(owner), lambda attempts: [one for one in attempts if one != attempt])

    def jobs(self, owner: str, most: int) -> list[str]:
        """Return the ids of the owner's latest jobs, at most `most`, the newest first."""
        running = places.running(owner)
        folder = running.removesuffix("running.json")
        listed = [one.key for one in self._store.listed(folder, _MOST_LISTED)]
        found: dict[str, None] = {}
        # The names of months are in their order.
        for key in sorted((key for key in listed if key != running), reverse=True):
            attempts = reversed(self._read(key)[0])
            found |= dict.fromkeys(one.partition("-")[0] for one in attempts)
            if len(found) >= most:
                break
        return [one for one in found if places.is_id(one)][:most]

    def _check(self, owner: str, attempts: list[str]) -> None:
        if owner not in _UNLIMITED and len(attempts) >= self._most:
            error = TrainingQuotaUsed(
                f"This key has started {self._most} training jobs this month, which is its limit."
            )
            error.retry_after = self._seconds_left()
            raise error

    def _change(self, key: str, change: Callable[[list[str]], list[str]]) -> None:
        for _ in range(_TRIES):
            attempts, tag = self._read(key)
            changed = change(attempts)
            if changed == attempts:
                return
            body = json.dumps({"jobs": changed}).encode()
            if tag is None:
                written = self._store.create(key, body)
            else:
                written = self._store.replace(key, body, tag)
            if written is not None:
                return
        raise StoreUnavailable("Other requests of the same key were faster; try again.")

    def _read(self, key: str) -> tuple[list[str], str | None]:
        stored = self._store.read(key)
        if stored is None:
            return [], None
        attempts = read_object(stored.body).get("jobs", [])
        return [str(one) for one in attempts] if isinstance(attempts, list) else [], stored.tag

    def _key(self, owner: str) -> str:
        return places.month(owner, self._utc().strftime("%Y-%m"))

    def _seconds_left(self) -> int:
        now = self._utc()
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = (first + timedelta(days=32)).replace(day=1)
        return max(int((following - now).total_seconds()), 1)

    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)
