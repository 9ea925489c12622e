import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easel.prompts import prompt_weights
from easel.prompts.prompt_weights import MOST_WEIGHT, Fragment, parse

SYNTAX = st.text(st.sampled_from('ab 1.2:()[]\\+-,"'), max_size=80)
PLAIN = st.text(st.characters(exclude_characters="()[]\\+-:", exclude_categories=["Cs"]))


def pieces(prompt):
    return [(fragment.text.strip(), fragment.weight) for fragment in parse(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        # AUTOMATIC1111
        ("a (red:1.2) ball", [("a", 1), ("red", 1.2), ("ball", 1)]),
        ("(red ball: .5 )", [("red ball", 0.5)]),
        ("(red:0)", [("red", 0)]),
        ("(red)", [("red", 1.1)]),
        ("((red)) (((blue)))", [("red", 1.21), ("blue", 1.331)]),
        ("[red] [[blue]]", [("red", 0.909091), ("blue", 0.826446)]),
        ("[(red)]", [("red", 1)]),
        ("((red:1.5) ball)", [("red", 1.65), ("ball", 1.1)]),
        ("(route 66:1.2)", [("route 66", 1.2)]),
        # Compel
        ("(red ball)1.2 sky", [("red ball", 1.2), ("sky", 1)]),
        ("(red ball)++, sky", [("red ball", 1.21), (", sky", 1)]),
        ("(red ball)-", [("red ball", 0.9)]),
        ("bright++ sky--.", [("bright", 1.21), ("sky", 0.81), (".", 1)]),
        ("(red++ ball)1.5", [("red", 1.815), ("ball", 1.5)]),
        ("blue-green+", [("blue-green", 1.1)]),
        ("猫++", [("猫", 1.21)]),
        # both
        ("(red:1.2) ball++", [("red", 1.2), ("ball", 1.21)]),
        # escapes
        (r"a \(red\) \[ball\]", [("a (red) [ball]", 1)]),
        (r"(red \(ball\):1.3)", [("red (ball)", 1.3)]),
        (r"bright\+\+ 3\:2 \\o", [("bright++ 3:2 \\o", 1)]),
        (r"a \cat", [("a \\cat", 1)]),
    ],
)
def test_both_ways_of_writing_weights_are_read(prompt, expected):
    assert pieces(prompt) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "c++ code, an A+ grade, vitamin B-",
        "a well-known sci-fi scene - at dawn -- or dusk",
        "16:9, at 10:30",
        "1) first 2) second",
        "a smile :) and a tear :(",
        "(never closed, [nor this",
        "closed too often) twice]",
        "1+1 = 2, a+b, --, ++",
        'a "quoted" thing\'s end\\',
        "50% off, #1, <tag> & more | {x}",
    ],
)
def test_ordinary_text_does_not_change(prompt):
    assert parse(prompt) == [Fragment(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a photo (old)", [("a photo", 1), ("old", 1.1)]),
        ("(ratio 16:9)", [("ratio 16:9", 1.1)]),
        ("(c)2024 me", [("c", 1.1), ("2024 me", 1)]),
        ("(red:4)", [("red:4", 1.1)]),
        ("(red)1.2.", [("red", 1.2), (".", 1)]),
        ("(a [b) c]", [("a [b", 1.1), ("c]", 1)]),
        ("[a:b:0.5]", [("a:b:0.5", 0.909091)]),
        ("()", [("", 1)]),
        ("", [("", 1)]),
    ],
)
def test_borderline_cases_of_text_and_weights_are_decided(prompt, expected):
    assert pieces(prompt) == expected


@given(SYNTAX | st.text(max_size=80))
def test_any_text_is_read(prompt):
    fragments = parse(prompt)
    assert fragments
    assert all(0 <= fragment.weight <= MOST_WEIGHT for fragment in fragments)


@given(PLAIN)
def test_text_without_syntax_is_one_piece_and_unchanged(prompt):
    assert parse(prompt) == [Fragment(prompt)]


@given(st.text(max_size=40))
def test_escaped_text_is_one_piece_and_unchanged(text):
    escaped = "".join(
        f"\\{character}" if character in "()[]\\+-:" else character for character in text
    )
    assert parse(escaped) == [Fragment(text)]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_a_person_loses_nothing_but_brackets_signs_and_weights(prompt):
    kept = "".join(fragment.text for fragment in parse(prompt))
    letters = [character for character in prompt if character.isalpha()]
    assert [character for character in kept if character.isalpha()] == letters


HOSTILE = [
    "(",
    "[",
    ")",
    "+",
    "-",
    ":",
    "\\",
    "([",
    "(]",
    ")1.2",
    "a+",
    "a+b ",
    ":1",
    ": ",
    "(a:1.2",
    ")+",
    "(a:1)",
    '"(',
]


def steps(prompt):
    """Return how many lines of the parser run for a prompt."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename != prompt_weights.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parse(prompt)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("part", HOSTILE)
def test_hostile_text_takes_steps_in_proportion_to_its_length(part):
    short, long = (steps(part * count) for count in (100, 400))
    assert long < 4.5 * short + 100


@pytest.mark.parametrize("most", [100, 1_000])
def test_nesting_has_no_depth_at_which_it_fails(most):
    assert pieces("(" * most + "red" + ")" * most) == [("red", MOST_WEIGHT)]
    assert pieces("[" * most + "red" + "]" * most) == [("red", pytest.approx(0, abs=1e-4))]
    assert pieces("(" * most) == [("(" * most, 1)]
