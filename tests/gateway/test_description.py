"""A model's description, which the gateway and the model package read with the same code."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.description import FIELDS, KINDS, LARGEST, Description, Vocabulary

TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
ENTRIES = st.lists(TEXTS | st.lists(TEXTS, min_size=1, max_size=3), max_size=4)
VOCABULARIES = st.fixed_dictionaries(
    {"things": st.lists(TEXTS, min_size=1, max_size=4)},
    optional=dict.fromkeys(set(KINDS) - {"things"}, ENTRIES),
)
DESCRIPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "about": TEXTS,
        "examples": st.lists(TEXTS, max_size=3),
        "vocabulary": VOCABULARIES,
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def test_an_entry_is_a_name_or_a_name_with_others():
    data = {"things": ["a panda", ["a tiger", "big cat"]], "colours": None}

    assert Description.from_dict({"vocabulary": data}).vocabulary == Vocabulary(
        things=(("a panda",), ("a tiger", "big cat"))
    )


def test_nothing_is_a_description_that_says_nothing():
    for data in ({}, {"about": None, "examples": [], "vocabulary": None}):
        assert Description.from_dict(data) == Description()
        assert Description.from_dict(data).to_dict() == {}


@given(DESCRIPTIONS)
def test_a_description_is_passed_on_as_it_was_written(data):
    described = Description.from_dict(data)

    assert described.to_dict() == {name: value for name, value in data.items() if value}
    assert Description.from_dict(json.loads(json.dumps(described.to_dict()))) == described


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ([], "description"),
        ({"about": 7}, "about"),
        ({"about": " "}, "about"),
        ({"about": "x" * 501}, "about"),
        ({"about": "a\nb"}, "about"),
        ({"about": "\ud800"}, "about"),
        ({"examples": "a cat"}, "examples"),
        ({"examples": [7]}, "examples"),
        ({"examples": [""]}, "examples"),
        ({"vocabulary": []}, "vocabulary"),
        ({"vocabulary": {}}, "vocabulary.things"),
        ({"vocabulary": {"things": []}}, "vocabulary.things"),
        ({"vocabulary": {"things": [[]]}}, "vocabulary.things"),
        ({"vocabulary": {"things": [["a", 7]]}}, "vocabulary.things"),
        ({"vocabulary": {"things": {"a": 1}}}, "vocabulary.things"),
        ({"vocabulary": {"things": ["a"], "colors": ["red"]}}, "vocabulary: colors"),
        ({"vocabulary": {"things": ["a"], "colours": "red"}}, "vocabulary.colours"),
        ({"examples": ["x" * 300] * (LARGEST // 300)}, "description"),
        ({"vocab": {}}, "vocab"),
    ],
)
def test_anything_else_is_refused_by_its_field(data, field):
    with pytest.raises(ValueError, match=field):
        Description.from_dict(data)


@given(
    JSON
    | st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(KINDS), JSON))
)
def test_any_json_is_a_description_or_a_value_error(data):
    try:
        described = Description.from_dict(data)
    except ValueError:
        return
    assert set(described.to_dict()) <= set(FIELDS)
