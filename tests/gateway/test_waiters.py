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
            held.enter_context(waiters(bucket).place("cat"))
        with pytest.raises(TooManyWaiting), waiters(bucket).place("cat"):
            pass


def test_a_place_is_free_again_when_its_visitor_has_left(bucket):
    for _ in range(10):
        with waiters(bucket, most=1).place("cat"):
            pass

    assert bucket.objects == {}


def test_a_place_whose_visitor_died_is_free_again_after_a_while(bucket):
    with ExitStack() as died:
        died.enter_context(waiters(bucket, most=1, now=0.0).place("cat"))
        with pytest.raises(TooManyWaiting), waiters(bucket, most=1, now=39.0).place("cat"):
            pass
        with waiters(bucket, most=1, now=41.0).place("cat"):
            assert len(bucket.objects) == 1


def test_a_place_is_left_even_when_the_wait_ends_badly(bucket):
    with pytest.raises(ZeroDivisionError), waiters(bucket).place("cat"):
        raise ZeroDivisionError

    assert bucket.objects == {}


def test_a_crowd_that_waits_for_one_picture_leaves_places_for_others(bucket):
    def waits(picture):
        try:
            held.enter_context(waiters(bucket, most=20).place(picture))
        except TooManyWaiting:
            return False
        return True

    with ExitStack() as held:
        # Only some places are tried each time: so often that all that it may have are taken.
        crowd = [waits("cat") for _ in range(200)]
        others = [waits(f"dog {number}") for number in range(200)]

    assert sum(crowd) == 10
    assert sum(others) == 10
