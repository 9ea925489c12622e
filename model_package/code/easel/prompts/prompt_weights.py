r"""Prompt weights: from the prompt as typed to fragments of text with weights.

Two notations are supported and can be mixed:

    (words:1.2)   AUTOMATIC1111: weight 1.2
    (words)       weight 1.1, and ((words)) 1.21
    [words]       weight 1 / 1.1
    (words)1.2    Compel: weight 1.2
    (words)++     weight 1.1 twice; (words)- is 0.9
    word++        the same for one word
    \( \) \[ \]   the character itself; so is \ before + - : and itself

Nested weights multiply. Everything else is text: an unmatched bracket, a weight above 3, `c++` and
`A+` (a single letter or digit has no weight of its own), `16:9`, a hyphen between words, and the
rest of either tool's syntax, such as `[a:b:0.5]` or `.blend()`.

Prompts can be hostile, so parsing takes time linear in the length at any nesting. Compel's own
parser takes minutes for eight open parentheses.
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
# All repetitions before a decision are bounded, so that no input makes the search slow.
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
    """A part of a prompt; weight 1 is plain text."""

    text: str
    weight: float = 1.0


@dataclass
class _Token:
    """A part of the prompt as typed, and its meaning: text, or the start or end of a weight."""

    typed: str
    text: str
    opens: str = ""
    closes: str = ""
    weight: float | None = None  # of a closing bracket or a word


def parse(prompt: str) -> list[Fragment]:
    """Return the prompt's fragments in order, at least one; neighbours of equal weight are joined.

    A prompt without weights is one fragment: its text with the escapes resolved.
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
            # An unmatched bracket is text, and its weight does not count.
            own = 1.0 if token.opens or token.closes or token.weight is None else token.weight
            pieces.append(Fragment(token.text, _limited(weights[-1] * own)))
    return _joined(pieces) or [Fragment("")]


def _tokens(prompt: str) -> Iterator[_Token]:
    """Split the prompt; each character is in exactly one token."""
    previous = ""
    for match in _TOKEN.finditer(prompt):
        typed = match.group()
        if match["word"]:
            yield from _word(typed)
        elif match["escaped"]:
            yield _Token(typed, match["escaped"])
        elif match["inner"] and not _is_weight(match["inner"], after=previous):
            yield _Token(typed[:-1], typed[:-1])
            yield _Token(")", ")", closes="(")
        else:
            yield _bracket(match, typed)
        previous = typed[-1]


def _bracket(match: re.Match[str], typed: str) -> _Token:
    if match["open"]:
        return _Token(typed, typed, opens=typed)
    if match["close"]:
        return _Token(typed, typed, closes=_CLOSES[typed])
    if match["inner"]:
        return _Token(typed, typed, closes="(", weight=float(match["inner"]))
    if match["outer"] and _is_weight(match["outer"]):
        return _Token(typed, typed, closes="(", weight=float(match["outer"]))
    if match["signs"]:
        return _Token(typed, typed, closes="(", weight=_power(match["signs"]))
    return _Token(typed, typed)


def _word(typed: str) -> Iterator[_Token]:
    """Split a run of letters into a word with its signs, if any, and its punctuation."""
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
    """Whether a number is a weight, unlike those in 16:9, 10:30 or (c)2024."""
    whole_after_digit = after.isdigit() and "." not in number
    return float(number) <= MOST_WEIGHT and not whole_after_digit


def _power(signs: str) -> float:
    return float(_SIGN[signs[0]] ** len(signs))


def _match(tokens: list[_Token]) -> tuple[dict[int, float], set[int]]:
    """Return the weight of each matched opening bracket, and the matching closing ones."""
    starts: dict[int, float] = {}
    ends: set[int] = set()
    opened: list[int] = []
    unmatched = {"(": 0, "[": 0}  # counts, so that no search through `opened` is needed
    for place, token in enumerate(tokens):
        if token.opens:
            opened.append(place)
            unmatched[token.opens] += 1
        elif token.closes and unmatched[token.closes]:
            # A bracket of the other kind that was opened in between remains text.
            while tokens[start := opened.pop()].opens != token.closes:
                unmatched[tokens[start].opens] -= 1
            unmatched[token.closes] -= 1
            starts[start] = _BRACKET[token.closes] if token.weight is None else token.weight
            ends.add(place)
    return starts, ends


def _limited(weight: float) -> float:
    """Limit and round a weight, so that factors that cancel out give exactly 1."""
    return round(min(weight, MOST_WEIGHT), 6)


def _joined(pieces: Iterable[Fragment]) -> list[Fragment]:
    groups: list[tuple[list[str], float]] = []
    for piece in pieces:
        # White space has no weight of its own and must not split a fragment.
        blank = not piece.text.strip()
        if groups and (blank or groups[-1][1] == piece.weight):
            groups[-1][0].append(piece.text)
        elif piece.text:
            groups.append(([piece.text], 1.0 if blank else piece.weight))
    return [Fragment("".join(texts), weight) for texts, weight in groups]
