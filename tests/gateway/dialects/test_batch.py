"""Several pictures for one call."""

import pytest

from chalicelib.dialects.batch import (
    LARGEST_TOGETHER,
    Batch,
    check_weight,
    fit,
    read_count,
    with_seeds,
)
from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest
from chalicelib.images.jobs import Finished

FIRST = GenerationRequest(prompt="a cat", seed=2**32 - 1, width=1536, height=1536)


def test_seeds_count_up_and_wrap_around():
    assert [each.seed for each in with_seeds(FIRST, 3)] == [2**32 - 1, 0, 1]


@pytest.mark.parametrize("value", [0, 5, -1, True, "5", "two", "", 1.5, None, []])
def test_a_count_is_a_whole_number_from_1_to_4(value):
    with pytest.raises(InvalidRequest, match="n: must be a whole number from 1 to 4"):
        read_count(value, "n")


@pytest.mark.parametrize("value", [2, 2.0, "2", "2.0"])
def test_a_count_can_be_spelled_as_any_number(value):
    assert read_count(value, "n") == 2


def test_what_certainly_does_not_fit_is_refused_with_advice():
    with pytest.raises(InvalidRequest, match="n: .*do not fit one response; .*ask for webp"):
        check_weight(with_seeds(FIRST, 4), "n", "ask for webp")


def test_fewer_than_one_picture_are_not_advised():
    large = GenerationRequest.from_dict({**FIRST.to_dict(), "width": 1_536, "height": 1_536})

    with pytest.raises(InvalidRequest, match="width: a PNG .* request a smaller one, or ask") as no:
        check_weight([large], "n", "ask for webp")
    assert no.value.field == "width"


@pytest.mark.parametrize("changes", [{"format": "webp"}, {"width": 512}, {"width": None}])
def test_what_can_fit_is_accepted(changes):
    first = GenerationRequest.from_dict({**FIRST.to_dict(), **changes})

    check_weight(with_seeds(first, 2), "n", "")


def test_pictures_fit_as_long_as_they_do_together():
    half = Finished(bytes(LARGEST_TOGETHER // 2))

    assert fit([half, half])
    assert not fit([half, half, Finished(b"x")])
    assert not fit([Finished(b"", link="https://bucket/picture")])


def test_a_batch_is_finished_when_every_picture_is_there():
    requests = with_seeds(FIRST, 2)

    ids = ("sd-a", "sd-b")

    assert Batch(requests, ids, (Finished(b"a"), Finished(b"b")), is_stored=False).finished
    assert Batch(requests, ids, (Finished(b"a"), object()), is_stored=False).finished is None
