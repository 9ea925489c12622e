import pytest

from model_package.demo.tokens import LENGTH, VOCABULARY, to_ids


def test_the_tokenizer_is_clips_with_2048_entries(tokenizer):
    assert len(tokenizer) <= VOCABULARY
    assert tokenizer.model_max_length == LENGTH == 77


def test_common_words_are_one_token(tokenizer):
    assert len(tokenizer.tokenize("a photo of a red apple in the snow")) <= 10


def test_captions_are_padded_to_one_length_with_the_end(tokenizer):
    ids = to_ids(tokenizer, ["a cat", ""])
    assert ids.shape == (2, 77)
    assert ids[:, -1].tolist() == [tokenizer.eos_token_id] * 2
    assert ids[1, 0] == tokenizer.bos_token_id


@pytest.mark.parametrize("prompt", ["Naïve façade 🍎 жук", "<|odd|> \x00 {}", "a " * 500])
def test_any_text_can_be_read(tokenizer, prompt):
    ids = to_ids(tokenizer, [prompt])
    assert ids.shape == (1, 77)
    assert 0 <= int(ids.min()) <= int(ids.max()) < VOCABULARY


def test_capitals_do_not_matter(tokenizer):
    assert to_ids(tokenizer, ["A Red APPLE"]).equal(to_ids(tokenizer, ["a red apple"]))
