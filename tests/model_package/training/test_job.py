import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation import InvalidField
from model_package.training.job import RULES, Job, describe, read_fields
from tests.packages import ROOT

PAGE = ROOT / "docs" / "training.md"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": "a", "rank": 0}, "rank"),
        ({"name": "a", "rank": True}, "rank"),
        ({"name": "a", "flip": 1}, "flip"),
        ({"name": "a", "rate": float("nan")}, "rate"),
        ({"name": "a", "rate": 0}, "rate"),
        ({"name": "a", "resolution": 100}, "resolution"),
        ({"name": "a", "optimizer": "sgd"}, "optimizer"),
        ({"name": "a", "trigger": "x\0"}, "trigger"),
        ({"name": "a", "sample_prompts": "text"}, "sample_prompts"),
        ({"name": "a", "sample_prompts": [""]}, "sample_prompts"),
        ({"name": "a", "sample_prompts": ["x"] * 9}, "sample_prompts"),
        ({"name": "a", "preserve": "output"}, "class_prompt"),
        ({"name": "a", "version": 2}, "version"),
        ({"name": "a", "learning_rate": 1}, "learning_rate"),
    ],
)
def test_an_error_names_the_field(fields, name):
    with pytest.raises(InvalidField) as error:
        Job.from_dict(fields)

    assert error.value.field == name


VALUES = (
    st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.booleans()
    | st.none()
    | st.lists(st.text(max_size=3), max_size=3)
)


@given(st.dictionaries(st.sampled_from(list(RULES)), VALUES))
def test_any_value_is_refused_by_name_or_survives_json(fields):
    try:
        job = Job.from_dict(fields)
    except InvalidField as error:
        name = error.field
    else:
        name = "name"
        assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job
    assert name in RULES


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ("dogs", "at most 20 objects"),
        ([{"folder": str(number)} for number in range(21)], "at most 20 objects"),
        (["dogs"], "objects with folder"),
        ([{"repeats": 2}], "objects with folder"),
        ([{"folder": "/"}], "folder that must not be empty"),
        ([{"folder": "a"}, {"folder": "a/"}], "each folder once"),
        ([{"folder": "a", "repeats": 0}], "repeats that must be"),
        ([{"folder": "a", "rank": 1}], "have no rank"),
        ([{"folder": "a", "flip": 1}], "flip that must be true or false"),
    ],
)
def test_a_set_that_is_wrong_is_refused_by_name(sets, words):
    with pytest.raises(InvalidField, match=words) as raised:
        Job.from_dict({"name": "a", "sets": sets})
    assert raised.value.field == "sets"


def test_fields_that_contradict_each_other_are_refused():
    for fields, name in (
        ({"sets": [{"folder": "a", "of_class": True}]}, "preserve"),
        ({"conv_rank": 4}, "conv"),
        ({"conv_alpha": 4.0}, "conv"),
        ({"optimizer": "prodigy", "text_encoder_rate": 1e-4}, "text_encoder_rate"),
    ):
        with pytest.raises(InvalidField) as raised:
            Job.from_dict({"name": "a", **fields})
        assert raised.value.field == name


def test_the_rate_depends_on_the_optimizer():
    assert (Job(name="a").rate, Job(name="a", optimizer="prodigy").rate) == (1e-4, 1.0)
    assert Job(name="a", optimizer="prodigy", rate=0.5).rate == 0.5


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * 2_000_000])
def test_a_file_that_is_no_job_is_refused(tmp_path, content):
    path = tmp_path / "job.json"
    path.write_bytes(content)

    with pytest.raises(InvalidField, match=r"job\.json"):
        read_fields(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidField, match=r"job\.json"):
        read_fields(tmp_path / "job.json")


def test_the_schema_has_every_field_with_its_default():
    schema = describe()

    assert set(schema["properties"]) == set(RULES)
    defaults = {
        name: one["default"] for name, one in schema["properties"].items() if "default" in one
    }
    assert Job.from_dict({"name": "a", **defaults}) == Job(name="a")


def test_the_page_lists_every_field():
    assert "\n".join(rows(describe())) in PAGE.read_text(encoding="utf-8")


def rows(schema):
    """Yield the rows of the page's table."""
    for name, one in schema["properties"].items():
        unset = one.get("x-unset") or json.dumps(one.get("default", "required")).strip('"')
        yield f"| `{name}` | {one['description']} | {limits(one)} | {unset} |"


def limits(one):
    if "enum" in one:
        return ", ".join(f"`{choice}`" for choice in one["enum"])
    if "minimum" in one:
        return f"{one['minimum']:,} to {one['maximum']:,}"
    if "maxLength" in one:
        return f"at most {one['maxLength']:,} characters"
    if "maxItems" in one:
        return f"at most {one['maxItems']} {'sets' if 'properties' in one['items'] else 'texts'}"
    return one["type"]
