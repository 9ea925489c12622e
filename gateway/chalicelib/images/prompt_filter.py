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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby, product
from pathlib import Path
from typing import Any

from chalicelib.images.prompt_weights import parse

_FOLDER = Path(__file__).parent
_OWN_WORDS = "house_rules"
_VOWELS = "aeiou"
_BETWEEN_WORDS = re.compile(r"[^a-z0-9_]+")
# Characters that hide a word when they are put between its letters; a comma separates words.
_BETWEEN_LETTERS = re.compile(r"[^a-z_\s,;:()/\[\]{}?&\"]+")
_MASKED = re.compile(r"(?<=[a-z])[*#%]+(?=[a-z])")
# A pattern matches a letter once or more often, so three are as good as a hundred.
_LONGEST_RUN = re.compile(r"(.)\1{3,}")
_MARKS = "!|¡.,;:?+\"'()[]{}"
_SHORTEST_ROW = 3
_TAG = re.compile(r"<[^<>]*>")
_WEIGHT = re.compile(r":\s*[+-]?[0-9.]+(?=\s*[)\]])")
_BRACKETS = re.compile(r"[()\[\]{}]|(?<=\))[0-9.+-]+")
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
        self._allowed = _any_of(filter(None, map(_plain, allowed)), space=" ?")
        self._words = [
            (Match(name, category["reason"]), _Words(category["words"]))
            for name, category in data["categories"].items()
        ]
        self._pairs = [
            (Match(name, category["reason"]), [_Words(words) for words in category["both"]])
            for name, category in data["categories"].items()
            if "both" in category
        ]
        if refused:
            match = Match(_OWN_WORDS, "words that this gateway's operator does not allow")
            self._words.append((match, _Words(_plain(word) for word in refused)))

    def check(self, prompt: str) -> Match | None:
        """Return the first category that a prompt matches, or None."""
        readings, rows = readings_of(prompt)
        texts = [self._allowed.sub(" ", reading) for reading in readings]
        for match, halves in self._pairs:
            if all(half.is_in(texts, rows) for half in halves):
                return match
        for match, words in self._words:
            if words.is_in(texts, rows):
                return match
        return None


@cache
def prompt_filter(more: tuple[str, ...]) -> PromptFilter:
    """Return the one filter of these settings."""
    return PromptFilter(more)


class _Words:
    """Words to look for: whole in a text, and anywhere in a row of letters that were spaced."""

    def __init__(self, words: Iterable[str]) -> None:
        every = [word for word in words if word.strip("* ")]
        self._whole = _any_of(every)
        lengths = {word: len(word.strip("*")) for word in every}
        spaced = [word.strip("*") for word in every if " " not in word and lengths[word] > 2]
        self._anywhere = _any_of(spaced, bound="")

    def is_in(self, texts: Sequence[str], rows: Sequence[str]) -> bool:
        """Whether one of the texts or rows contains one of the words."""
        return any(map(self._whole.search, texts)) or any(map(self._anywhere.search, rows))


def readings_of(prompt: str) -> tuple[list[str], list[str]]:
    """Return the ways to read a prompt, and the rows of letters that are spaced in it.

    A reading has lower-case Latin words with one space between them, and `_` for a masked vowel.
    """
    readings, rows = [], []
    for spelling in _spellings(prompt):
        plain = _latin(spelling)
        readings.append(_words(plain))
        # A mark at a word's end is usually punctuation, but a letter in "hent@!".
        masked = dict.fromkeys([plain, _MASKED.sub("_", plain)])
        for text, letter, marks in product(masked, "il", (_MARKS, "")):
            typed = " ".join(_typed(chunk, letter, marks) for chunk in text.split())
            words = _words(typed)
            readings += [words, _words(_BETWEEN_LETTERS.sub("", typed))]
            rows.append(_rows(words))
    return list(dict.fromkeys(readings)), list(dict.fromkeys(rows))


def _spellings(prompt: str) -> list[str]:
    """Return the prompt as typed, as the model reads it, and without any tags and weights.

    The model joins what brackets part: `(nu)(de)` is one word to it. Other tools' notations, with
    tags and negative weights, are removed as well, whatever this model makes of them.
    """
    joined = "".join(fragment.text for fragment in parse(prompt))
    bare = _BRACKETS.sub("", _WEIGHT.sub("", _TAG.sub("", prompt)))
    return list(dict.fromkeys([prompt, joined, bare]))


def _latin(prompt: str) -> str:
    """Return a prompt in lower case, without marks, in letters that look like Latin ones."""
    return _LONGEST_RUN.sub(r"\1\1\1", "".join(map(_latin_letters, prompt)))


@lru_cache(maxsize=4_096)
def _latin_letters(character: str) -> str:
    """Return what a character looks like; the first three letters of one that stands for many."""
    folded = unicodedata.normalize("NFKC", character).casefold()
    # An underscore between letters parts them; as a reading has it, it is a masked vowel.
    decomposed = unicodedata.normalize("NFKD", folded).replace("_", "-")
    letters = [each for each in decomposed if unicodedata.category(each) not in _INVISIBLE]
    return "".join(_confusables().get(letter, letter) for letter in letters[:3])


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


def _rows(words: str) -> str:
    """Return the single letters, joined where there are at least three in a row.

    A word can begin at any of them: the first may be an article, as in "a n u d e".
    """
    groups = groupby(words.split(" "), key=lambda word: len(word) == 1)
    rows = ("".join(group) for alone, group in groups if alone)
    return " ".join(row for row in rows if len(row) >= _SHORTEST_ROW)


def _any_of(words: Iterable[str], space: str = " ", bound: str = r"\b") -> re.Pattern[str]:
    """Return a pattern for any of the words, with each letter once or more often.

    Nothing is searched for before a word that may be in another: that would take quadratic time.
    """
    every = sorted(set(words))
    within = [word for word in every if word.startswith("*")]
    whole = [word for word in every if not word.startswith("*")]
    patterns = [bound + _by_first(whole, space, bound)] if whole else []
    patterns += [_by_first(within, space, bound)] if within else []
    return re.compile("|".join(patterns) or r"(?!)")


def _by_first(words: Sequence[str], space: str, bound: str) -> str:
    """Return a pattern grouped by first letters: most places of a text fail at the first."""
    firsts: dict[str, list[str]] = {}
    for word in words:
        first, rest = word.strip("*")[0], word.strip("*")[1:]
        letters = "".join(_letter(each, "+", space) for each in rest)
        after = "" if word.endswith("*") else bound
        firsts.setdefault(first, []).append(f"{_letter(first, '*', space)}{letters}{after}")
    branches = (f"{_letter(first, '', space)}(?:{'|'.join(firsts[first])})" for first in firsts)
    return f"(?:{'|'.join(branches)})"


def _letter(letter: str, times: str, space: str) -> str:
    if letter == " ":
        return space
    return (f"[{letter}_]" if letter in _VOWELS else letter) + times


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
