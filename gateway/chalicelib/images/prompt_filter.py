"""Finds refused words in a prompt, however they are spelled.

A prompt is read in several ways: as it is, with digits and signs read as the letters that they are
typed for, with the characters between letters removed, and with spaced letters joined. A word
matches if one of the readings contains it whole. Before that, letters that only look Latin are read
as Latin, and repeated letters as one (https://www.unicode.org/reports/tr39/).

It is a list of words, so it stops careless prompts and not determined users: a picture can be
described without any of its words. The words are in `filter.json`, which can be edited.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, product
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_OWN_WORDS = "house_rules"
_VOWELS = "aeiou"
_BETWEEN_WORDS = re.compile(r"[^a-z0-9]+")
# Characters that hide a word when they are put between its letters; a comma separates words.
_BETWEEN_LETTERS = re.compile(r"[^a-z\s,;:()/\[\]{}?&\"]+")
_MASKED = re.compile(r"(?<=[a-z])[*#%]+(?=[a-z])")
# A pattern matches a letter once or more often, so three are as good as a hundred.
_LONGEST_RUN = re.compile(r"(.)\1{3,}")
_MARKS = "!|¡.,;:?+\"'()[]{}"
# The upper bound keeps the work linear in the length of a row of single letters.
_SPACED_LENGTHS = range(3, 13)
# Unicode categories of marks and format characters, which are not letters of their own.
_INVISIBLE = {"Mn", "Me", "Cf"}


@dataclass(frozen=True)
class Match:
    """A match of the filter: a category, and its description for the caller."""

    category: str
    reason: str


class PromptFilter:
    """A list of words, compiled.

    Args:
        more: words in addition to the file's; a word with a leading minus is allowed instead.
    """

    def __init__(self, more: Sequence[str] = ()) -> None:
        data = json.loads((_FOLDER / "filter.json").read_text(encoding="utf-8"))
        allowed = [*data["allow"], *(word[1:].strip() for word in more if word.startswith("-"))]
        refused = [word for word in more if not word.startswith("-")]
        self._allowed = _any_of((_plain(word) for word in allowed), space=" ?")
        self._words = [
            (Match(name, category["reason"]), _any_of(category["words"]))
            for name, category in data["categories"].items()
        ]
        self._pairs = [
            (Match(name, category["reason"]), [_any_of(words) for words in category["both"]])
            for name, category in data["categories"].items()
            if "both" in category
        ]
        if refused:
            match = Match(_OWN_WORDS, "words that this gateway's operator does not allow")
            self._words.append((match, _any_of(_plain(word) for word in refused)))

    def check(self, prompt: str) -> Match | None:
        """Return the first category that a prompt matches, or None."""
        readings = [self._allowed.sub(" ", reading) for reading in readings_of(prompt)]
        for match, halves in self._pairs:
            if all(any(half.search(reading) for reading in readings) for half in halves):
                return match
        for match, words in self._words:
            if any(words.search(reading) for reading in readings):
                return match
        return None


def check_prompt(more: tuple[str, ...], prompt: str) -> Match | None:
    """Return what the filter of these settings finds in a prompt."""
    return prompt_filter(more).check(prompt)


@cache
def prompt_filter(more: tuple[str, ...]) -> PromptFilter:
    """Return the one filter of these settings."""
    return PromptFilter(more)


def readings_of(prompt: str) -> list[str]:
    """Return the ways to read a prompt: lower-case Latin words with one space between them."""
    text = _latin(prompt)
    readings = [_words(text)]
    for masked in _unmasked(text):
        # A mark at a word's end is usually punctuation, but a letter in "hent@!".
        # `1`, `!` and `|` are typed for i and for l.
        for letter, marks in product("il", (_MARKS, "")):
            typed = " ".join(_typed(chunk, letter, marks) for chunk in masked.split())
            joined = _words(_BETWEEN_LETTERS.sub("", typed))
            readings += [_words(typed), joined, _without_spacing(_words(typed))]
    return list(dict.fromkeys(readings))


def _latin(prompt: str) -> str:
    """Return a prompt in lower case, without marks, in letters that look like Latin ones."""
    # NFKC makes full-width and circled letters plain; NFKD separates marks, which are dropped.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", prompt).casefold())
    letters = (char for char in decomposed if unicodedata.category(char) not in _INVISIBLE)
    return _LONGEST_RUN.sub(
        r"\1\1\1", "".join(_confusables().get(letter, letter) for letter in letters)
    )


def _plain(word: str) -> str:
    return _words(_latin(word))


def _words(text: str) -> str:
    return _BETWEEN_WORDS.sub(" ", text).strip()


def _typed(chunk: str, letter: str, marks: str) -> str:
    """Read the signs in a chunk that has letters; `7` and `1920x1080` are numbers.

    A sign alone can be one letter of a spaced word: "s 3 x". The characters in `marks` are ignored
    at the ends of the chunk.
    """
    core = chunk.strip(marks) or chunk
    if len(core) > 1 and not any("a" <= sign <= "z" for sign in core):
        return chunk
    signs = _signs(letter)
    return "".join(signs.get(sign, sign) for sign in core)


def _unmasked(text: str) -> Iterator[str]:
    """Yield the text, and the text with each vowel in place of a mask: p*rn."""
    yield text
    if _MASKED.search(text):
        for vowel in _VOWELS:
            yield _MASKED.sub(vowel, text)


def _without_spacing(words: str) -> str:
    """Join single letters, where there are at least three in a row.

    The word can begin at any of them: the first may be an article, as in "a n u d e".
    """
    pieces = []
    for alone, group in groupby(words.split(" "), key=lambda word: len(word) == 1):
        row = list(group)
        is_spaced = alone and len(row) >= _SPACED_LENGTHS.start
        pieces += list(_stretches("".join(row))) if is_spaced else row
    return " ".join(pieces)


def _stretches(letters: str) -> Iterator[str]:
    for start in range(len(letters)):
        for length in _SPACED_LENGTHS:
            if start + length <= len(letters):
                yield letters[start : start + length]


def _any_of(words: Iterable[str], space: str = " ") -> re.Pattern[str]:
    """Return a pattern for any of the words, with each letter once or more often."""
    return re.compile(r"\b(?:" + "|".join(_pattern(word, space) for word in words) + r")\b")


def _pattern(word: str, space: str) -> str:
    letters = "".join(f"{letter}+" if letter != " " else space for letter in word.strip("*"))
    before = r"[a-z]*?" if word.startswith("*") else ""
    after = r"[a-z]*" if word.endswith("*") else ""
    return before + letters + after


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((_FOLDER / "confusables.json").read_text(encoding="utf-8"))
    return table


def _confusables() -> dict[str, str]:
    letters: dict[str, str] = _table()["letters"]
    return letters


@cache
def _signs(letter: str) -> dict[str, str]:
    return {**_table()["typed_for"], **dict.fromkeys(_table()["typed_for_i_or_l"], letter)}
