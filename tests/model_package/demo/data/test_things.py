from collections import Counter

from model_package.demo.data.colours import COLOUR_NAMES
from model_package.demo.data.compose import is_held_out
from model_package.demo.data.things import all_things


def test_there_are_at_least_three_hundred_things():
    assert len(all_things()) >= 300


def test_no_word_means_two_things():
    uses = Counter(word for thing in all_things() for word in thing.words)
    assert [word for word, count in uses.items() if count > 1] == []


def test_words_are_lower_case_as_the_tokenizer_makes_them():
    words = [word for thing in all_things() for word in thing.words]
    assert words == [word.lower().strip() for word in words]


def test_some_things_ride_and_some_carry():
    names = {thing.name: thing for thing in all_things()}
    assert names["astronaut"].rides
    assert names["horse"].carries


def test_each_thing_is_kept_from_training_in_one_colour():
    for thing in range(len(all_things())):
        assert sum(is_held_out(thing, colour) for colour in range(len(COLOUR_NAMES))) == 1
