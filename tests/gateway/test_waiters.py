"""How many visitors wait at once."""

from contextlib import ExitStack

import pytest

from chalicelib.errors import TooManyWaiting
from chalicelib.store import Store
from chalicelib.waiters import Waiters
from tests.gateway.memory import Breaks, Bucket


@pytest.fixture
def bucket():
    return Bucket(Breaks())


def waiters(bucket, most=3, now=0.0):
    return Waiters(Store(bucket, "bucket", "jobs/"), most, lambda: now)


def test_there_are_as_many_places_as_were_set(bucket):
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(waiters(bucket).place())
        with pytest.raises(TooManyWaiting), waiters(bucket).place():
            pass


def test_a_place_is_free_again_when_its_visitor_has_left(bucket):
    for _ in range(10):
        with waiters(bucket, most=1).place():
            pass

    assert bucket.objects == {}


def test_a_place_whose_visitor_died_is_free_again_after_a_while(bucket):
    with ExitStack() as died:
        died.enter_context(waiters(bucket, most=1, now=0.0).place())
        with pytest.raises(TooManyWaiting), waiters(bucket, most=1, now=39.0).place():
            pass
        with waiters(bucket, most=1, now=41.0).place():
            assert len(bucket.objects) == 1


def test_a_place_is_left_even_when_the_wait_ends_badly(bucket):
    with pytest.raises(ZeroDivisionError), waiters(bucket).place():
        raise ZeroDivisionError

    assert bucket.objects == {}
