"""The budgets of keys: in memory, and in a real S3 protocol with 50 uses at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.auth.budget import MICRO, Budgets
from chalicelib.aws.s3 import Store
from chalicelib.errors import BudgetUsed, StoreUnavailable
from tests.gateway.doubles import Breaks, Bucket, Provided, key

ADA = key(usd_per_month=1)
NOVEMBER = datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC).timestamp()


class Clock:
    """A clock that stands still."""

    def __init__(self):
        self.now = NOVEMBER

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaks():
    return Breaks()


@pytest.fixture
def bucket(breaks):
    return Bucket(breaks)


@pytest.fixture
def budgets(bucket, clock):
    return Budgets(Store(Provided(bucket), "bucket", "usage/budgets/"), clock)


def test_a_run_pays_what_it_cost_and_not_what_was_reserved(budgets):
    reservation = budgets.reserve(ADA, 0.6)
    assert budgets.account(ADA).reserved == 600_000

    budgets.settle(reservation, 0.2)

    account = budgets.account(ADA)
    assert (account.spent, account.reserved) == (200_000, 0)


def test_a_budget_that_is_spent_is_refused_until_the_month_is_over(budgets, clock):
    budgets.settle(budgets.reserve(ADA, 0.9), 0.9)

    with pytest.raises(BudgetUsed, match=r"has spent 0\.90 of the 1\.00 USD") as refused:
        budgets.reserve(ADA, 0.2)
    assert refused.value.retry_after == 30
    clock.now += 30
    assert budgets.reserve(ADA, 0.2).place == "2026-12/ada.json"


def test_what_is_only_reserved_is_refused_for_a_moment(budgets):
    budgets.reserve(ADA, 0.9)

    with pytest.raises(BudgetUsed, match="reserved for pictures in progress"):
        budgets.check(ADA, 0.2)


def test_a_refund_can_be_spent_again(budgets):
    budgets.refund(budgets.reserve(ADA, 1))

    assert budgets.reserve(ADA, 1).micro_usd == MICRO


def test_the_reservation_of_a_lost_lambda_is_spent_in_full(budgets, clock):
    clock.now -= 3_600
    lost = budgets.reserve(ADA, 0.5)
    clock.now += 601

    account = budgets.account(ADA)
    assert (account.spent, account.reserved) == (500_000, 0)
    with pytest.raises(BudgetUsed):
        budgets.reserve(ADA, 0.6)
    budgets.settle(budgets.reserve(ADA, 0.1), 0.1)
    budgets.settle(lost, 0.01)  # a frozen Lambda that goes on
    assert budgets.account(ADA).spent == 600_000


def test_a_run_that_takes_longer_than_reserved_pays_no_more(budgets):
    budgets.settle(budgets.reserve(ADA, 0.3), 7)

    assert budgets.account(ADA).spent == 300_000


def test_a_run_that_ends_next_month_is_paid_by_the_month_of_its_beginning(budgets, clock, bucket):
    reservation = budgets.reserve(ADA, 1)
    clock.now += 60
    budgets.settle(reservation, 0.5)

    assert budgets.account(ADA).spent == 0
    assert set(bucket.objects) == {"usage/budgets/2026-11/ada.json"}
    assert b'"spent": 500000' in bucket.objects["usage/budgets/2026-11/ada.json"]


def test_keys_have_accounts_of_their_own(budgets):
    budgets.reserve(ADA, 1)

    assert budgets.reserve(key("bob", usd_per_month=1), 1).micro_usd == MICRO


def test_two_runs_that_read_the_same_account_are_both_counted(budgets, breaks):
    breaks.interrupt(1, lambda: budgets.reserve(ADA, 0.6))

    with pytest.raises(BudgetUsed):
        budgets.reserve(ADA, 0.6)
    assert budgets.account(ADA).reserved == 600_000


def test_a_write_whose_response_was_lost_counts_once(budgets, bucket, monkeypatch):
    put = bucket.put_object

    def written_twice(**arguments):
        # botocore sends the call again, and S3 refuses its condition.
        put(**arguments)
        return put(**arguments)

    budgets.settle(budgets.reserve(ADA, 0.1), 0.1)
    monkeypatch.setattr(bucket, "put_object", written_twice)
    reservation = budgets.reserve(ADA, 0.5)
    assert budgets.account(ADA).reserved == 500_000
    budgets.settle(reservation, 0.4)

    assert (budgets.account(ADA).spent, budgets.account(ADA).reserved) == (500_000, 0)


def test_nothing_is_reserved_while_s3_does_not_respond():
    class Silent:
        def get_object(self, **_):
            raise ReadTimeoutError(endpoint_url="u")

    with pytest.raises(StoreUnavailable):
        Budgets(Store(Provided(Silent()), "bucket", "")).reserve(ADA, 0.1)


def test_50_parallel_callers_cannot_overdraw_a_budget(s3):
    budgets = Budgets(Store(Provided(s3), "easel-links", "usage/budgets/"))
    together = key("together", usd_per_month=0.07)

    def paint(_):
        try:
            reservation = budgets.reserve(together, 0.01)
        except BudgetUsed:
            return False
        budgets.settle(reservation, 0.01)
        return True

    with ThreadPoolExecutor(50) as pool:
        painted = list(pool.map(paint, range(50)))

    account = budgets.account(together)
    assert sum(painted) == 7
    assert (account.spent, account.reserved) == (70_000, 0)
