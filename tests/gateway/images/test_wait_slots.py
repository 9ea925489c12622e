"""How many visitors wait at once."""

from contextlib import ExitStack, contextmanager

import pytest

from chalicelib.aws.s3 import Store
from chalicelib.errors import TooManyWaiting
from chalicelib.images.wait_slots import ConcurrencyLimiter
from tests.gateway.doubles import Breaks, Bucket


@pytest.fixture
def bucket():
    return Bucket(Breaks())


def limiter(bucket, most=3, now=0.0):
    return ConcurrencyLimiter(Store(bucket, "bucket", "jobs/"), most, lambda: now)


@contextmanager
def taken(bucket, picture="cat", **more):
    with limiter(bucket, **more).slot(picture) as slot:
        slot.take()
        yield slot


def test_there_are_as_many_places_as_were_set(bucket):
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(taken(bucket))
        with pytest.raises(TooManyWaiting), taken(bucket):
            pass


def test_a_place_is_free_again_when_its_visitor_has_left(bucket):
    for _ in range(10):
        with taken(bucket, most=1):
            pass

    assert bucket.objects == {}


def test_a_place_whose_visitor_died_is_free_again_after_a_while(bucket):
    with ExitStack() as died:
        died.enter_context(taken(bucket, most=1, now=0.0))
        with pytest.raises(TooManyWaiting), taken(bucket, most=1, now=39.0):
            pass
        with taken(bucket, most=1, now=41.0):
            assert len(bucket.objects) == 1


def test_a_place_is_left_even_when_the_wait_ends_badly(bucket):
    with pytest.raises(ZeroDivisionError), taken(bucket):
        raise ZeroDivisionError

    assert bucket.objects == {}


def test_a_crowd_that_waits_for_one_picture_leaves_places_for_others(bucket):
    def waits(picture):
        try:
            held.enter_context(taken(bucket, picture, most=20))
        except TooManyWaiting:
            return False
        return True

    with ExitStack() as held:
        # Only some places are tried each time: so often that all that it may have are taken.
        crowd = [waits("cat") for _ in range(200)]
        others = [waits(f"dog {number}") for number in range(200)]

    assert sum(crowd) == 10
    assert sum(others) == 10


def test_a_place_is_taken_only_when_it_is_wanted_and_then_once(bucket):
    with limiter(bucket).slot("cat") as slot:
        assert bucket.objects == {}
        slot.take()
        slot.take()
        assert len(bucket.objects) == 1

    assert bucket.objects == {}


def test_a_free_place_costs_no_look_at_those_that_are_taken(bucket):
    bucket.get_object = None  # nobody may ask whose time is over
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(taken(bucket))
