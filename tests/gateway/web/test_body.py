"""Reading a generation request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest
from chalicelib.web.body import read_body, read_form, read_json_object, read_query
from chalicelib.web.request import Request


def request(body=b"", **query):
    values = {name: [value] for name, value in query.items()}
    return Request("POST", "/jobs", "/api/jobs", {}, values, "id", body)


def test_the_prompt_of_a_url_and_its_parameters_make_one_request():
    asked = read_query(request(seed="7", width="512"), "a cat")
    assert asked == GenerationRequest(prompt="a cat", seed=7, width=512)


def test_a_form_has_its_prompt_among_its_parameters():
    assert read_form(request(prompt="a cat", steps="4")).prompt == "a cat"


def test_a_body_is_read_as_the_contract_has_it():
    assert read_body(read_json_object(request(b'{"prompt": "a cat", "seed": 7}'))).seed == 7


@pytest.mark.parametrize(
    ("read", "field"),
    [
        (lambda: read_query(request(prompt="a dog"), "a cat"), "prompt"),
        (lambda: read_query(request(width="513"), "a cat"), "width"),
        (lambda: read_query(request(no_such="1"), "a cat"), "no_such"),
        (lambda: read_form(request(seed="7")), "prompt"),
        (lambda: read_body({"prompt": "a cat", "seed": "seven"}), "seed"),
        (lambda: read_body({}), "prompt"),
    ],
)
def test_what_is_wrong_is_refused_with_the_fields_name(read, field):
    with pytest.raises(InvalidRequest) as refused:
        read()
    assert refused.value.field == field


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"cat"', b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_a_json_object_is_refused(body):
    with pytest.raises(InvalidRequest, match="The body must be"):
        read_json_object(request(body))


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}"])
def test_a_body_of_too_many_levels_is_said_to_be_one(body):
    with pytest.raises(InvalidRequest, match="fewer levels"):
        read_json_object(request(body))


SPELLINGS = {
    "int": lambda number: number,
    "float": float,
    "text": str,
    "text of a float": lambda number: f"{float(number):f}",
}
NUMBERS = {
    "seed": st.integers(-2, 2**32 + 1),
    "steps": st.integers(-1, 102),
    "guidance_scale": st.integers(-1, 31),
    "width": st.integers(7, 194).map(lambda eighth: eighth * 8),
    "height": st.integers(60, 80),
}


@pytest.mark.parametrize("name", NUMBERS)
@given(data=st.data())
def test_a_number_is_read_or_refused_alike_however_it_is_spelled(name, data):
    number = data.draw(NUMBERS[name])
    spelled = [spell(number) for spell in SPELLINGS.values()]
    bodies = [body_of({"prompt": "x", name: value}) for value in spelled]
    queries = [request(**{name: str(value)}) for value in spelled]
    outcomes = {outcome(lambda one: read_body(read_json_object(one)), body) for body in bodies}
    outcomes |= {outcome(read_query, query, "x") for query in queries}

    assert len(outcomes) == 1


def outcome(read, *arguments):
    try:
        return str(read(*arguments))
    except InvalidRequest as error:
        return error.message


def body_of(data):
    return request(json.dumps(data).encode())
