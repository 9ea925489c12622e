"""Where prompts come from."""

import random
import threading
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest
from chalicelib.images.prompts import prompt_from_path, random_sentence


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
