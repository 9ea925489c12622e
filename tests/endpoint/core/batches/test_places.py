"""Keys of batches: no text of a request is a part of one."""

import pytest

from endpoint.core.batches import places
from endpoint.core.batches.lines import read_file

LINES = read_file(".txt", b"a cat\na dog", ["sd"])
ID = places.batch_id(LINES, "v1")


def test_the_id_depends_on_the_pictures_and_on_the_models_version():
    assert places.is_id(ID)
    assert places.batch_id(LINES, "v1") == ID
    assert len({ID, places.batch_id(LINES, "v2"), places.batch_id(LINES[:1], "v1")}) == 3


def test_a_pictures_object_has_a_name_that_sagemaker_allows_and_sorts_by_its_number():
    names = [places.output_file(number, LINES[0].pictures[0]) for number in (0, 9, 10, 49_999)]

    assert names == sorted(names)
    assert all(len(name) <= 32 and name.count(".") == 1 for name in names)
    assert [places.number_of(f"x/{name}") for name in names] == [0, 9, 10, 49_999]
    assert places.number_of("x/1.png") is None


def test_a_jobs_name_is_short_enough_for_sagemaker():
    assert len(places.sagemaker_name("a" * 20, ID, 999)) <= 63


@pytest.mark.parametrize("text", ["", "../x", "A" * 24, f"{ID}/"])
def test_another_text_is_no_part_of_a_key(text):
    with pytest.raises(ValueError, match="cannot be a part"):
        places.batch(text)


def test_the_names_of_recorded_pictures_have_their_numbers_and_fit_into_a_key():
    numbers = list(range(0, 999, 4))
    names = places.recorded_files(numbers)
    prefix = places.recorded("0" * 24)
    assert all(len(prefix + name) < 1_024 for name in names)
    assert [n for name in names for n in places.recorded_numbers(prefix + name)] == numbers
    assert places.recorded_files([]) == []
    assert places.recorded_numbers(f"{prefix}painted.jsonl") == []


def test_an_id_says_when_it_was_made():
    assert places.created_at(places.new_id(1_795_000_000.25)) == 1_795_000_000
