"""Signed values."""

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.auth import tokens

SECRET, OTHER = b"s" * 43, b"o" * 43
CLAIMS = {"key": "ada", "exp": 2_000_000_000, "n": None}


def test_what_was_signed_is_read_again():
    token = tokens.sign(SECRET, "link", CLAIMS)

    assert tokens.verify([SECRET], "link", token) == CLAIMS
    assert tokens.verify([OTHER, SECRET], "link", token) == CLAIMS
    assert set(token) <= set("-_.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_another_secret_another_purpose_and_no_secret_read_nothing():
    token = tokens.sign(SECRET, "link", CLAIMS)

    assert tokens.verify([OTHER], "link", token) is None
    assert tokens.verify([SECRET], "session", token) is None
    assert tokens.verify([], "link", token) is None


@given(st.data())
def test_no_single_character_can_be_changed(data):
    token = tokens.sign(SECRET, "link", CLAIMS)
    place = data.draw(st.integers(0, len(token) - 2))  # the last has bits that say nothing
    other = data.draw(st.characters().filter(lambda each: each != token[place]))

    assert tokens.verify([SECRET], "link", token[:place] + other + token[place + 1 :]) is None


@given(st.text(max_size=1_200))
def test_no_text_is_a_token(text):
    assert tokens.verify([SECRET], "link", text) is None


def test_signed_nonsense_has_no_claims():
    for payload in ("", "!", "AAAA", "W10"):  # W10 is []
        token = f"v1.{payload}.{tokens._encode(tokens._mac(SECRET, 'link', payload))}"
        assert tokens.verify([SECRET], "link", token) is None
