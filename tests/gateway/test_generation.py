"""The contract, on its own."""

import json
import math
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.generation import (
    LARGEST_AREA,
    RULES,
    GenerationRequest,
    InvalidField,
    Name,
    describe,
    painted_size,
)

WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60).filter(
    lambda text: text.strip() and not re.search(r"[\x1c-\x1f]", text)
)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
WEIGHTED = st.dictionaries(
    NAMES, st.floats(-20, 20).map(lambda weight: f"{weight:.4f}"), max_size=4
)
LORA = WEIGHTED.map(lambda pairs: ", ".join(f"{name}:{pairs[name]}" for name in pairs))
VALID = st.fixed_dictionaries(
    {"prompt": WORDS},
    optional={
        "negative_prompt": WORDS,
        "seed": st.integers(0, 2**32 - 1),
        "steps": st.integers(1, 100),
        "guidance_scale": st.floats(0, 30),
        "width": st.integers(8, 192).map(lambda eighth: eighth * 8),
        "height": st.integers(8, 192).map(lambda eighth: eighth * 8),
        "model": NAMES,
        "lora": LORA,
        "format": st.sampled_from(["png", "webp", "jpeg"]),
    },
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(VALID)
def test_a_valid_request_survives_the_way_through_json(data):
    request = GenerationRequest.from_dict(data)

    assert GenerationRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


@given(VALID)
def test_a_query_string_spells_the_same_request_as_json(data):
    spelled = {name: str(value) for name, value in data.items()}

    assert GenerationRequest.from_query(spelled) == GenerationRequest.from_dict(data)


@given(st.dictionaries(st.sampled_from([*RULES, "nonsense"]), ANYTHING))
def test_whatever_arrives_is_a_valid_request_or_refused_by_name(data):
    made = _made_or_refused(GenerationRequest.from_dict, data)
    if isinstance(made, InvalidField):
        assert made.field in {*RULES, "nonsense"}
        assert str(made).startswith(f"{made.field}: ")
    else:
        json.dumps(made.to_dict(), allow_nan=False).encode()


@given(st.dictionaries(st.sampled_from([*RULES, "nonsense"]), st.text(max_size=40)))
def test_whatever_a_query_holds_is_a_valid_request_or_refused_by_name(query):
    made = _made_or_refused(GenerationRequest.from_query, query)
    if isinstance(made, InvalidField):
        assert made.field in {*RULES, "nonsense"}


def _made_or_refused(make, data):
    try:
        return make(data)
    except InvalidField as error:
        return error


@given(st.text(max_size=200))
def test_a_cleaned_prompt_is_already_clean(text):
    try:
        prompt = GenerationRequest(prompt=text).prompt
    except InvalidField:
        return
    assert GenerationRequest(prompt=prompt).prompt == prompt
    assert unicodedata.is_normalized("NFC", prompt)
    assert "  " not in prompt
    assert prompt == prompt.strip()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  a \t red\r\n\n apple ", "a red apple"),
        ("a\u00a0wide\u2003space\u2028and\u3000more\u0085lines", "a wide space and more lines"),
        ("cafe\u0301", "caf\u00e9"),
        ("\U0001f469\u200d\U0001f680 猫 ☕", "\U0001f469\u200d\U0001f680 猫 ☕"),
        ('<b>"quoted" 100% a+b / c?d', '<b>"quoted" 100% a+b / c?d'),
    ],
)
def test_a_prompt_arrives_as_typed_apart_from_white_space(typed, kept):
    assert GenerationRequest(prompt=typed).prompt == kept


@pytest.mark.parametrize(
    "control", ["\0", "\x07", "\x1b", "\x1c", "\x1f", "\x7f", "\x9b", "\ud800"]
)
@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_control_characters_are_refused(field, control):
    with pytest.raises(InvalidField, match=f"^{field}: must not contain control characters"):
        GenerationRequest.from_dict({"prompt": "a cat", field: f"a{control}cat"})


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("prompt", "", "must not be empty"),
        ("prompt", " \n ", "must not be empty"),
        ("prompt", "x" * 1_001, "at most 1,000 characters"),
        ("prompt", "x" * 10_000_000, "at most 1,000 characters"),
        ("prompt", "\u0301" * 10_001, "at most 1,000 characters"),
        ("prompt", 7, "must be text"),
        ("negative_prompt", "x" * 1_001, "at most 1,000 characters"),
        ("seed", -1, "from 0 to 4,294,967,295"),
        ("seed", 2**32, "from 0 to 4,294,967,295"),
        ("seed", 1e300, "from 0 to 4,294,967,295"),
        ("seed", "7", "must be a whole number"),
        ("steps", 0, "from 1 to 100"),
        ("steps", 101, "from 1 to 100"),
        ("steps", 1.5, "must be a whole number"),
        ("steps", True, "must be a whole number"),
        ("steps", math.nan, "must be a whole number"),
        ("steps", math.inf, "must be a whole number"),
        ("guidance_scale", -0.1, "from 0 to 30"),
        ("guidance_scale", 30.1, "from 0 to 30"),
        ("guidance_scale", math.nan, "from 0 to 30"),
        ("guidance_scale", -math.inf, "from 0 to 30"),
        ("guidance_scale", 10**400, "from 0 to 30"),
        ("guidance_scale", False, "from 0 to 30"),
        ("width", 56, "multiple of 8 from 64"),
        ("width", 1_544, "to 1,536"),
        ("height", 100, "multiple of 8"),
        ("model", "", "must be a name"),
        ("model", "../../etc", "must be a name"),
        ("model", "x" * 64, "must be a name"),
        ("model", "sd\n", "must be a name"),
        ("lora", 7, "must be at most 4 of name:weight"),
        ("lora", ["a"], "must be at most 4 of name:weight"),
        ("lora", "a,b,c,d,e", "must be at most 4 of name:weight"),
        ("lora", "a:20.1", "weights from -20 to 20"),
        ("lora", "a:-20.1", "weights from -20 to 20"),
        ("lora", "a:nan", "weights from -20 to 20"),
        ("lora", "a:", "must be at most 4 of name:weight"),
        ("lora", "a:1:1", "must be at most 4 of name:weight"),
        ("lora", "a,", "must be at most 4 of name:weight"),
        ("lora", ":1", "must be at most 4 of name:weight"),
        ("lora", "../a:1", "must be at most 4 of name:weight"),
        ("lora", "a b:1", "must be at most 4 of name:weight"),
        ("lora", f"{'x' * 64}:1", "must be at most 4 of name:weight"),
        ("lora", "a" * 10_000_000, "must be at most 4 of name:weight"),
        ("lora", "a:1,b,a:0.5", "must not have a name twice"),
        ("format", "gif", "must be one of png, webp, jpeg"),
        ("format", ["png"], "must be one of png, webp, jpeg"),
        ("sampler", "euler", "is not a field"),
    ],
)
def test_a_value_outside_its_limits_is_refused_by_name(field, value, reason):
    with pytest.raises(InvalidField, match=f"^{field}: .*{reason}") as refused:
        GenerationRequest.from_dict({"prompt": "a cat", field: value})

    assert refused.value.field == field


@pytest.mark.parametrize("text", ["nan", "inf", "0x10", "1_0", "٣", "1e", "--1", " 5", "9" * 5_000])
@pytest.mark.parametrize("field", ["steps", "guidance_scale"])
def test_a_query_spells_numbers_in_plain_digits(field, text):
    with pytest.raises(InvalidField, match=f"^{field}: must be a"):
        GenerationRequest.from_query({"prompt": "a cat", field: text})


def test_a_missing_prompt_is_named():
    with pytest.raises(InvalidField, match="^prompt: is missing"):
        GenerationRequest.from_dict({"steps": 3})


def test_null_and_an_empty_parameter_mean_unset():
    plain = GenerationRequest(prompt="a cat")

    assert GenerationRequest.from_dict({"prompt": "a cat", "seed": None, "format": None}) == plain
    assert GenerationRequest.from_query({"prompt": "a cat", "seed": "", "format": ""}) == plain


def test_a_whole_float_is_a_whole_number_because_json_does_not_tell_them_apart():
    assert GenerationRequest.from_dict({"prompt": "a cat", "steps": 20.0}).steps == 20


def test_completing_fills_what_is_unset_and_nothing_else():
    request = GenerationRequest(prompt="a cat", seed=7).complete(seed=1, model="sd", steps=20)

    assert request == GenerationRequest(prompt="a cat", seed=7, model="sd", steps=20)


def test_completing_with_a_default_outside_the_limits_is_refused():
    with pytest.raises(InvalidField, match="^steps:"):
        GenerationRequest(prompt="a cat").complete(steps=1_000)


def test_equal_requests_are_spelled_alike():
    one = GenerationRequest.from_dict({"prompt": "a  cat", "guidance_scale": 7})
    other = GenerationRequest.from_dict({"prompt": " a cat", "guidance_scale": 7.0})

    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())
    assert GenerationRequest(prompt="a", guidance_scale=-0.0).to_dict()["guidance_scale"] == 0.0


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("", ""),
        ("  ", ""),
        ("watercolour", "watercolour:1"),
        ("watercolour:0.80", "watercolour:0.8"),
        (" pixel : .5 ,a-b_c.d:-2", "a-b_c.d:-2,pixel:0.5"),
        ("b,a:+1e0", "a:1,b:1"),
        ("a:-0", "a:0"),
        ("a:0.12344999", "a:0.1234"),
        ("a:1e-9", "a:0"),
    ],
)
def test_adapters_are_spelled_in_one_way(typed, kept):
    request = GenerationRequest.from_query({"prompt": "a cat", "lora": typed})

    assert request.lora == kept
    assert GenerationRequest(prompt="a cat", lora=kept) == request


@given(WEIGHTED)
def test_adapters_may_come_in_any_order(pairs):
    spelled = [f"{name}:{weight}" for name, weight in pairs.items()]
    one = GenerationRequest(prompt="a", lora=",".join(spelled))

    assert one == GenerationRequest(prompt="a", lora=", ".join(reversed(spelled)))
    assert RULES["lora"].pairs(one.lora) == sorted(
        (name, float(weight)) for name, weight in pairs.items()
    )


def test_the_description_covers_every_field_with_its_limits():
    described = describe()

    assert list(described["properties"]) == list(RULES)
    assert described["required"] == ["prompt"]
    assert described["properties"]["width"]["multipleOf"] == 8
    assert described["properties"]["format"]["default"] == "png"
    assert all(each["description"] for each in described["properties"].values())


@given(VALID)
def test_the_description_agrees_with_the_code_on_what_is_valid(data):
    for name, value in data.items():
        limits = describe()["properties"][name]
        cleaned = RULES[name].clean(value)
        assert _within(limits, cleaned)


def _within(limits, value):
    checks = {
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "multipleOf": lambda limit: value % limit == 0,
        "minLength": lambda limit: len(value) >= limit,
        "maxLength": lambda limit: len(value) <= limit,
        "pattern": lambda limit: re.search(limit, value),
        "enum": lambda limit: value in limit,
    }
    return all(checks[name](limit) for name, limit in limits.items() if name in checks)


@given(st.lists(st.text(min_size=1, max_size=70), max_size=6))
def test_a_name_is_made_of_any_text_and_of_that_text_alone(texts):
    names = {text: Name.of(text) for text in texts}
    for text, name in names.items():
        assert Name("").clean(name) == name
        assert Name.of(name) == name
        assert Name.of(text) == name
    assert len(set(names.values())) == len({unicodedata.normalize("NFC", text) for text in texts})


def test_a_text_that_is_a_name_is_its_own_name():
    for text in ("a", "A.b-c_1", "x" * 63):
        assert Name.of(text) == text
    assert Name.of("a b") != Name.of("a&b")
    assert Name.of("u\u0308") == Name.of("\u00fc")
    assert Name.of("\udcff") != Name.of("\udcfe")


SIDES = st.integers(8, 192).map(lambda eighth: eighth * 8)


@given(SIDES, SIDES, st.integers(LARGEST_AREA.least, LARGEST_AREA.most))
def test_a_picture_is_painted_within_the_largest_area_in_nearly_the_same_shape(
    width, height, largest
):
    painted = painted_size(width, height, largest)

    if width * height <= largest:
        assert painted == (width, height)
        return
    assert painted == painted_size(height, width, largest)[::-1]
    # The shortest side of the contract can ask for more.
    assert painted[0] * painted[1] <= largest or min(painted) == 64
    assert all(64 <= side <= 1_536 and side % 8 == 0 for side in painted)
    assert 1 / 1.035 < painted[0] / painted[1] * height / width < 1.035


@pytest.mark.parametrize(
    ("asked", "painted"),
    [
        ((1024, 1024), (128, 128)),
        ((512, 512), (128, 128)),
        ((1024, 512), (176, 88)),
        ((512, 768), (96, 144)),
        ((1280, 720), (168, 96)),
        ((128, 128), (128, 128)),
        ((1536, 64), (1536, 64)),  # neither side can be shorter
    ],
)
def test_the_sizes_of_the_bundled_model(asked, painted):
    assert painted_size(*asked, 128 * 128) == painted


def test_a_model_without_a_largest_area_paints_every_size():
    assert painted_size(1_536, 1_536, None) == (1_536, 1_536)


def test_a_format_that_is_not_set_is_png_and_is_not_in_the_json():
    unset, named = (
        GenerationRequest(prompt="a cat", **fields) for fields in ({}, {"format": "webp"})
    )

    assert (unset.format, unset.file_format, named.file_format) == (None, "png", "webp")
    assert "format" not in unset.to_dict()
    assert unset.complete(format="jpeg").file_format == "jpeg"
