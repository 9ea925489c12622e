"""What each key with a budget has spent in a month: one small object in S3 for a key and a month.

    <month>/<key>.json    {"spent": <micro USD>, "open": {<run>: [<micro USD>, <since when>]}}

A run reserves the most that it can cost before it starts, and pays what it did cost afterwards.
Changes of the object exclude each other (`aws/json_object.py`), and all that is spent and reserved
together never exceeds the budget: however many requests arrive at once, none overdraws it. The
reservation of a run that nobody ended, because its Lambda was lost, is spent in full.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chalicelib.access_settings import Key
from chalicelib.auth.quota import Stores
from chalicelib.aws.json_object import JsonObject
from chalicelib.aws.s3 import Store
from chalicelib.calendar_month import month_of, seconds_left
from chalicelib.errors import BudgetUsed

MICRO = 1_000_000
# No Lambda is alive after this: it ends with its request, which takes 29 s at most.
_LOST_SECONDS = 600
_RETRY_SECONDS = 30


@dataclass(frozen=True)
class Account:
    """What a key has spent in a month, in millionths of a dollar.

    Attributes:
        spent: by runs that are over.
        open: by the name of each run in progress, what is reserved for it, and since when.
    """

    spent: int = 0
    open: tuple[tuple[str, int, float], ...] = ()

    @classmethod
    def read(cls, content: Any, now: float) -> Account:
        """Return the account that an object's content describes; None is an empty one."""
        if content is None:
            return cls()
        runs = [(name, int(usd), float(since)) for name, (usd, since) in content["open"].items()]
        lost = sum(usd for _, usd, since in runs if now - since > _LOST_SECONDS)
        alive = tuple(run for run in runs if now - run[2] <= _LOST_SECONDS)
        return cls(int(content["spent"]) + lost, alive)

    def content(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"spent": self.spent, "open": {name: [usd, at] for name, usd, at in self.open}}

    @property
    def reserved(self) -> int:
        """What is reserved for runs in progress."""
        return sum(usd for _, usd, _ in self.open)


@dataclass(frozen=True)
class Reservation:
    """The money of one run, in millionths of a dollar, and where it was reserved."""

    place: str
    run: str
    micro_usd: int


class Budgets:
    """The budgets of all keys.

    Args:
        store: a part of a bucket that nothing else writes to.
        now: seconds since 1970.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    def account(self, key: Key) -> Account:
        """Return what a key has spent this month; raises StoreUnavailable."""
        return Account.read(self._object(self._place(key)).read(), self._now())

    def check(self, key: Key, usd: float) -> None:
        """Raise what `reserve` would raise, and reserve nothing."""
        self._check(self.account(key), key, _micro(usd))

    def reserve(self, key: Key, usd: float) -> Reservation:
        """Reserve the most that a run can cost.

        Args:
            key: one with a budget.
            usd: dollars, rounded up to a millionth.

        Raises:
            BudgetUsed: if what is left of the budget is less.
            StoreUnavailable: if S3 does not confirm it. The money can be reserved nevertheless.
        """
        place, run, amount = self._place(key), secrets.token_hex(8), _micro(usd)

        def reserved(content: Any) -> Any:
            now = self._now()
            account = Account.read(content, now)
            if any(name == run for name, _, _ in account.open):
                return content  # S3 wrote it, and the response was lost
            self._check(account, key, amount)
            return Account(account.spent, (*account.open, (run, amount, now))).content()

        self._object(place).change(reserved)
        return Reservation(place, run, amount)

    def settle(self, reservation: Reservation, usd: float) -> None:
        """Spend what a run cost, at most what was reserved for it, and free the rest.

        Raises:
            StoreUnavailable: if S3 does not confirm it; then all of it will be spent, later.
        """

        def settled(content: Any) -> Any:
            account = Account.read(content, self._now())
            others = tuple(run for run in account.open if run[0] != reservation.run)
            if len(others) == len(account.open):
                return content  # settled, or spent as that of a lost Lambda
            cost = min(_micro(usd), reservation.micro_usd)
            return Account(account.spent + cost, others).content()

        self._object(reservation.place).change(settled)

    def refund(self, reservation: Reservation) -> None:
        """Free what was reserved for a run that certainly never started; as `settle`."""
        self.settle(reservation, 0)

    def _check(self, account: Account, key: Key, amount: int) -> None:
        budget = math.floor((key.usd_per_month or 0) * MICRO)
        if account.spent + account.reserved + amount <= budget:
            return
        if account.spent + amount <= budget:
            message = "What is left of this key's budget is reserved for pictures in progress."
            raise BudgetUsed(message, _RETRY_SECONDS)
        raise BudgetUsed(
            f"This key has spent {account.spent / MICRO:.2f} of the"
            f" {budget / MICRO:.2f} USD that it can spend this month.",
            seconds_left(self._now()),
        )

    def _object(self, place: str) -> JsonObject:
        return JsonObject(self._store, place)

    def _place(self, key: Key) -> str:
        return f"{month_of(self._now())}/{key.name}.json"


def budgets_in(
    usage: tuple[str, str], stores: Stores, now: Callable[[], float] = time.time
) -> Budgets:
    """Return the budgets that are stored with the records of what is used.

    Args:
        usage: bucket and prefix of both.
        stores: provides parts of S3.
        now: seconds since 1970.
    """
    bucket, prefix = usage
    return Budgets(stores(bucket, f"{prefix}budgets/"), now)


def _micro(usd: float) -> int:
    return math.ceil(round(usd * MICRO, 3))
