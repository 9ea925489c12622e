"""The script that prepares the random sentences."""

import json

import prepare_sentences
import pytest


def test_the_sentences_that_ship_are_as_many_as_the_script_makes_and_all_fit():
    shipped = json.loads(prepare_sentences.OUTPUT.read_text(encoding="utf-8"))

    assert len(set(shipped)) == prepare_sentences.SENTENCES
    assert all(prepare_sentences.is_fit(sentence) for sentence in shipped)


@pytest.mark.parametrize(
    "sentence",
    [
        "Too short.",
        "The year 1848 saw five of them.",
        "A bracket (like this) is left over here.",
        "A new\nline is in the middle here.",
        "Caf\u00e9 culture in the cities of France.",
        "He was murdered in the old town.",
        "A list of every Nazi in the film.",
    ],
)
def test_a_sentence_that_does_not_suit_everybody_is_left_out(sentence):
    assert not prepare_sentences.is_fit(sentence)
