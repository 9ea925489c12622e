r"""Prompt weights: from what a person types to pieces of text with weights.

Two ways of writing are read, and may be mixed:

    (words:1.2)   AUTOMATIC1111: weight 1.2
    (words)       weight 1.1, and ((words)) 1.21
    [words]       weight 1 / 1.1
    (words)1.2    Compel: weight 1.2
    (words)++     weight 1.1 twice; (words)- is 0.9
    word++        the same for one word
    \( \) \[ \]   the character itself; so is \ before + - : and itself

Weights inside weights multiply. What does not fit is text: a bracket without its other half, a
weight above 3, `c++` and `A+` (a single letter or digit has no weight of its own), `16:9`, a hyphen
between words, and the rest of either tool's syntax, such as `[a:b:0.5]` or `.blend()`.

Whoever writes a prompt may be hostile, so this takes time linear in its length at any nesting;
Compel's own parser takes minutes for eight open parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MOST_WEIGHT = 3.0
_BRACKET = {"(": 1.1, "[": 1 / 1.1}
_SIGN = {"+": 1.1, "-": 0.9}
_CLOSES = {")": "(", "]": "["}
_NUMBER = r"(?:[0-9]{1,3}(?:\.[0-9]{0,6})?|\.[0-9]{1,6})"
_END = r"(?=[\s,.;:!?)\]]|$)"
_TOKEN = re.compile(
    rf"""
      \\(?P<escaped>[()\[\]\\+:-])
    | :\s*(?P<inner>{_NUMBER})\s*(?P<ends>\))
    | (?P<open>[(\[])
    | \)(?:(?P<outer>{_NUMBER}(?<!\.))|(?P<signs>\+{{1,99}}|-{{1,99}})){_END}
    | (?P<close>[)\]])
    | (?P<word>[^\s,:()\[\]\\]+)
    | (?P<other>\s+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PUNCTUATION = ".;!?\"'"


@dataclass(frozen=True)
class Fragment:
    """A piece of a prompt; weight 1 is plain text."""

    text: str
    weight: float = 1.0


@dataclass
class _Token:
    """A piece as typed, and what it stands for: text, or the start or end of a weight."""

    typed: str
    text: str
    opens: str = ""
    closes: str = ""
    weight: float | None = None  # an end's own weight, or a word's


def parse(prompt: str) -> list[Fragment]:
    """Return the prompt's pieces in order, neighbours of equal weight joined; never an empty list.

    Without any weights that is one piece: the prompt, with its escapes resolved.
    """
    tokens = list(_tokens(prompt))
    starts, ends = _match(tokens)
    weights, pieces = [1.0], []
    for place, token in enumerate(tokens):
        if place in starts:
            weights.append(weights[-1] * starts[place])
        elif place in ends:
            weights.pop()
        else:
            own = 1.0 if token.opens or token.closes or token.weight is None else token.weight
            pieces.append(Fragment(token.text, _limited(weights[-1] * own)))
    return _joined(pieces) or [Fragment("")]


def _tokens(prompt: str) -> Iterator[_Token]:
    """Cut the prompt up; each character is in exactly one token."""
    before = ""
    for found in _TOKEN.finditer(prompt):
        typed = found.group()
        if found["word"]:
            yield from _word(typed)
        elif found["escaped"]:
            yield _Token(typed, found["escaped"])
        elif found["inner"] and not _is_weight(found["inner"], after=before):
            yield _Token(typed[:-1], typed[:-1])
            yield _Token(")", ")", closes="(")
        else:
            yield _bracket(found, typed)
        before = typed[-1]


def _bracket(found: re.Match[str], typed: str) -> _Token:
    if found["open"]:
        return _Token(typed, typed, opens=typed)
    if found["close"]:
        return _Token(typed, typed, closes=_CLOSES[typed])
    if found["inner"]:
        return _Token(typed, typed, closes="(", weight=float(found["inner"]))
    if found["outer"] and _is_weight(found["outer"]):
        return _Token(typed, typed, closes="(", weight=float(found["outer"]))
    if found["signs"]:
        return _Token(typed, typed, closes="(", weight=_power(found["signs"]))
    return _Token(typed, typed)


def _word(typed: str) -> Iterator[_Token]:
    """Cut a run of letters into a word with its signs, if it has some, and its punctuation."""
    body = typed.rstrip(_PUNCTUATION)
    word = body.rstrip("+")
    if word == body:
        word = body.rstrip("-")
    plain = word == body or not word or (len(word) == 1 and word.isascii())
    if plain:
        yield _Token(typed, typed)
        return
    yield _Token(body, word, weight=_power(body[len(word) :]))
    yield _Token(typed[len(body) :], typed[len(body) :])


def _is_weight(number: str, after: str = "") -> bool:
    """Whether a number is meant as a weight: not in 16:9, 10:30 or (c)2024."""
    whole_after_digit = after.isdigit() and "." not in number
    return float(number) <= MOST_WEIGHT and not whole_after_digit


def _power(signs: str) -> float:
    return float(_SIGN[signs[0]] ** len(signs))


def _match(tokens: list[_Token]) -> tuple[dict[int, float], set[int]]:
    """Return the weight of each opening bracket that has its other half, and those halves."""
    starts: dict[int, float] = {}
    ends: set[int] = set()
    opened: list[int] = []
    waiting = {"(": 0, "[": 0}
    for place, token in enumerate(tokens):
        if token.opens:
            opened.append(place)
            waiting[token.opens] += 1
        elif token.closes and waiting[token.closes]:
            # A bracket of the other kind that was opened in between stays text.
            while tokens[start := opened.pop()].opens != token.closes:
                waiting[tokens[start].opens] -= 1
            waiting[token.closes] -= 1
            starts[start] = _BRACKET[token.closes] if token.weight is None else token.weight
            ends.add(place)
    return starts, ends


def _limited(weight: float) -> float:
    """Return the weight without the rounding of 1.1 * 1.1, so that what cancels out is 1."""
    return round(min(weight, MOST_WEIGHT), 6)


def _joined(pieces: Iterable[Fragment]) -> list[Fragment]:
    groups: list[tuple[list[str], float]] = []
    for piece in pieces:
        blank = not piece.text.strip()
        if groups and (blank or groups[-1][1] == piece.weight):
            groups[-1][0].append(piece.text)
        elif piece.text:
            groups.append(([piece.text], 1.0 if blank else piece.weight))
    return [Fragment("".join(texts), weight) for texts, weight in groups]
