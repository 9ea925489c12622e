"""Where prompts come from."""

import random
import threading
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.description import Description
from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest
from chalicelib.images.prompts import prompt_from_path, random_sentence

WORDS = st.lists(st.sampled_from(["xan", "the yip", "a zed", "an owl", "in oz"]), max_size=4)
VOCABULARIES = st.fixed_dictionaries(
    {"things": WORDS.filter(bool)},
    optional={"characters": WORDS, "colours": WORDS, "backgrounds": WORDS},
)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_a_client_encoded_is_what_was_typed(text):
    assert prompt_from_path(quote(text, safe="")) == text


def test_the_path_is_decoded_once_and_a_plus_stays_a_plus():
    assert prompt_from_path("100%2525%20a+b") == "100%25 a+b"


def test_bytes_that_are_no_utf8_are_refused_by_name():
    with pytest.raises(InvalidRequest) as refused:
        prompt_from_path("%ff%fe")

    assert refused.value.field == "prompt"


def test_the_same_seed_gives_the_same_sentence():
    assert random_sentence(7) == random_sentence(7)
    assert random_sentence(7) == "Charter for rises from Japan."


def test_different_seeds_give_different_sentences():
    assert len({random_sentence(seed) for seed in range(100)}) > 95


def test_every_sentence_is_a_valid_prompt():
    for seed in range(200):
        sentence = random_sentence(seed)
        assert GenerationRequest(prompt=sentence).prompt == sentence


def test_choosing_a_sentence_leaves_the_shared_generator_as_it_was():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    random_sentence(99)

    assert random.random() == expected


def test_sentences_chosen_at_once_are_those_chosen_in_turn():
    chosen: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: chosen.update({seed: random_sentence(seed)}))
        for seed in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert chosen == {seed: random_sentence(seed) for seed in range(50)}


@given(st.integers(0, 2**32 - 1), VOCABULARIES)
def test_a_vocabularys_sentence_has_no_other_words(seed, data):
    vocabulary = Description.from_dict({"vocabulary": data}).vocabulary
    sentence = random_sentence(seed, vocabulary)

    assert sentence == random_sentence(seed, vocabulary)
    names = [name for entries in data.values() for name in entries]
    known = {word for name in names for word in name.split()} | {"a", "an", "and"}
    assert set(sentence.split()) <= known


def test_a_colour_is_after_the_article_which_fits_it():
    def sentences(thing, colour):
        data = {"vocabulary": {"things": [thing], "colours": [colour]}}
        vocabulary = Description.from_dict(data).vocabulary
        return {random_sentence(seed, vocabulary) for seed in range(40)}

    assert sentences("an apple", "red") == {"an apple", "a red apple"}
    assert "an orange cat" in sentences("a cat", "orange")
    assert "white bread" in sentences("bread", "white")
    assert "the green statue" in sentences("the statue", "green")


def test_every_part_of_a_vocabulary_comes_up():
    data = {
        "things": ["a panda", ["a tiger", "big cat"]],
        "characters": ["a keeper"],
        "colours": ["red"],
        "backgrounds": ["in the snow"],
        "words": ["photo"],
    }
    vocabulary = Description.from_dict({"vocabulary": data}).vocabulary
    sentences = {random_sentence(seed, vocabulary) for seed in range(1000)}

    assert {"a red panda in the snow", "a keeper and a tiger", "a tiger"} <= sentences
    # A keeper's colour is the keeper's own; "big cat" is known, but not the name to show.
    assert not any("red keeper" in each or "big cat" in each for each in sentences)
