"""How many attempts an owner has started in a month; this is also the index of the owner's jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from chalicelib.aws.json_object import JsonObject
from chalicelib.aws.s3 import Store
from chalicelib.calendar_month import month_of, seconds_left
from chalicelib.errors import TrainingQuotaUsed
from chalicelib.training_jobs import places

# The operator and the user of a laptop pay for themselves.
_UNLIMITED = {places.OPERATOR, places.LOCAL}
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
        self._check(owner, self._attempts(self._key(owner)))

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
            attempts = reversed(self._attempts(key))
            found |= dict.fromkeys(one.partition("-")[0] for one in attempts)
            if len(found) >= most:
                break
        return [one for one in found if places.is_id(one)][:most]

    def _check(self, owner: str, attempts: list[str]) -> None:
        if owner not in _UNLIMITED and len(attempts) >= self._most:
            error = TrainingQuotaUsed(
                f"This key has started {self._most} training jobs this month, which is its limit."
            )
            error.retry_after = seconds_left(self._now())
            raise error

    def _change(self, key: str, change: Callable[[list[str]], list[str]]) -> None:
        def changed(content: Any) -> Any:
            attempts = _attempts_of(content)
            after = change(attempts)
            return content if after == attempts else {"jobs": after}

        JsonObject(self._store, key).change(changed)

    def _attempts(self, key: str) -> list[str]:
        return _attempts_of(JsonObject(self._store, key).read())

    def _key(self, owner: str) -> str:
        return places.month(owner, month_of(self._now()))


def _attempts_of(content: Any) -> list[str]:
    attempts = content.get("jobs", []) if isinstance(content, dict) else []
    return [str(one) for one in attempts] if isinstance(attempts, list) else []
