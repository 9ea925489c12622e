"""How many requests wait at once."""

from contextlib import ExitStack, contextmanager

import pytest

from chalicelib.aws.s3 import Store
from chalicelib.errors import TooManyWaiting
from chalicelib.images.service import ImageService
from chalicelib.images.wait_slots import ConcurrencyLimiter
from chalicelib.settings import Model, Queue, Settings
from tests.gateway.doubles import Breaks, Bucket, Provided


@pytest.fixture
def bucket():
    return Bucket(Breaks())


def limiter(bucket, most=3, now=0.0):
    return ConcurrencyLimiter(Store(Provided(bucket), "bucket", "jobs/"), most, lambda: now)


@contextmanager
def taken(bucket, picture="cat", **more):
    with limiter(bucket, **more).slot() as slot:
        slot.take(picture)
        yield slot


def test_there_are_as_many_slots_as_configured(bucket):
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(taken(bucket))
        with pytest.raises(TooManyWaiting), taken(bucket):
            pass


def test_a_slot_is_free_again_when_it_is_released(bucket):
    for _ in range(10):
        with taken(bucket, most=1):
            pass

    assert bucket.objects == {}


def test_a_slot_whose_owner_died_is_free_again_when_its_lease_ends(bucket):
    with ExitStack() as died:
        died.enter_context(taken(bucket, most=1, now=0.0))
        with pytest.raises(TooManyWaiting), taken(bucket, most=1, now=39.0):
            pass
        with taken(bucket, most=1, now=41.0):
            assert len(bucket.objects) == 1


def test_a_slot_is_released_even_when_the_wait_fails(bucket):
    with pytest.raises(ZeroDivisionError), taken(bucket):
        raise ZeroDivisionError

    assert bucket.objects == {}


def test_a_crowd_that_waits_for_one_picture_leaves_slots_for_others(bucket):
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


def test_a_slot_is_taken_only_when_it_is_needed_and_then_once(bucket):
    with limiter(bucket).slot() as slot:
        assert bucket.objects == {}
        slot.take("cat")
        slot.take("cat")
        assert len(bucket.objects) == 1

    assert bucket.objects == {}


def test_taking_a_free_slot_reads_no_lease(bucket):
    bucket.get_object = None  # reading a lease would fail
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(taken(bucket))


@pytest.mark.parametrize(("models", "waiting"), [(1, 6), (2, 6), (3, 6), (4, 4)])
def test_models_share_out_the_requests_that_can_wait(models, waiting):
    offered = {
        name: Model(name, None, Queue("easel-slow", "bucket", f"jobs/{name}/"))
        for name in ("a", "b", "c", "d")[:models]
    }
    # Two names for one queue have its slots together.
    offered["again"] = Model("again", None, offered["a"].queue)
    bucket = Bucket(Breaks())
    service = ImageService(Settings(offered, 24, False, most_waiting=6), s3=Provided(bucket))

    def waits(model, picture):
        try:
            held.enter_context(service._stored[model].limiter.slot()).take(picture)
        except TooManyWaiting:
            return False
        return True

    with ExitStack() as held:
        taken = [waits(model, f"cat {number}") for number in range(60) for model in offered]

    assert sum(taken) == waiting
