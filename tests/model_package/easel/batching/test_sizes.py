import pytest
from hypothesis import given
from hypothesis import strategies as st

from easel.batching.sizes import SIZES, Sizes, worthwhile

# Seconds of a step on a GPU that waits for launches, and on one that computes all the time.
GAINS = {1: 1.0, 2: 1.1, 4: 1.3, 8: 1.8}
LOSES = {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}


def per_picture(seconds):
    return {size: step / size for size, step in seconds.items()}


@pytest.mark.parametrize(
    ("seconds", "largest"),
    [
        (GAINS, 8),
        (LOSES, 1),
        ({1: 1.0, 2: 1.6, 4: 3.1, 8: 4.0}, 2),  # 8 would gain again
        ({1: 1.0, 2: 1.95, 4: 2.0}, 1),
        ({1: 1.0, 2: 1.2}, 2),  # no more was measured
        ({1: 1.0}, 1),
        ({}, 1),
    ],
)
def test_the_largest_size_gains_over_the_one_before(seconds, largest):
    assert worthwhile(per_picture(seconds)) == largest


def test_one_request_that_is_alone_is_painted_alone():
    assert Sizes(GAINS).choose(1, {}) == 1


def test_a_lone_request_gets_no_copies_where_a_measurement_was_disturbed():
    assert Sizes({1: 1.0, 2: 0.7, 4: 0.6}).choose(1, {}) == 1


@pytest.mark.parametrize(("requests", "size"), [(2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (20, 8)])
def test_a_size_suits_the_number_of_requests(requests, size):
    assert Sizes(GAINS).choose(requests, {}) == size


def test_a_batch_that_is_half_empty_and_costs_more_is_not_begun():
    # Two of two cost 2.4, one of eight 3.
    assert Sizes({1: 1.0, 2: 1.2, 4: 2.3, 8: 3.0}).choose(3, {}) == 4
    assert Sizes({1: 1.0, 2: 1.2, 4: 2.5, 8: 5.0}).choose(3, {}) == 2


def test_rows_that_are_copies_anyway_are_taken_first():
    assert Sizes(GAINS).choose(2, {4: 1}) == 4
    assert Sizes(GAINS).choose(2, {4: 4}) == 2
    # Such a large batch for so few would last as long as they keep coming.
    assert Sizes(GAINS).choose(2, {8: 1}) == 2


def test_exact_is_always_the_same():
    sizes = Sizes(GAINS, exact=True)
    assert {sizes.choose(requests, {4: 1}) for requests in range(1, 9)} == {8}


def test_a_size_that_does_not_fit_the_memory_is_not_chosen():
    assert Sizes(GAINS).choose(8, {}, most=2) == 2
    assert Sizes(GAINS, exact=True).choose(8, {}, most=4) == 4


@given(
    seconds=st.fixed_dictionaries({size: st.floats(0.01, 10) for size in SIZES}),
    requests=st.integers(1, 20),
    members=st.dictionaries(st.sampled_from(SIZES), st.integers(0, 8)),
    most=st.sampled_from(SIZES),
)
def test_a_size_is_one_that_fits(seconds, requests, members, most):
    assert Sizes(seconds).choose(requests, members, most) in [s for s in SIZES if s <= most]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (Sizes({1: 1.0}), "off"),
        (Sizes(GAINS), "up to 8"),
        (Sizes({4: 1.0}, exact=True), "exactly 4"),
    ],
)
def test_it_says_what_it_is(sizes, words):
    assert str(sizes) == words
