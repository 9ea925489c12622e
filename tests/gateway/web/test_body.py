"""Reading a generation request."""

import pytest

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
    assert read_body(request(b'{"prompt": "a cat", "seed": 7}')).seed == 7


@pytest.mark.parametrize(
    ("read", "field"),
    [
        (lambda: read_query(request(prompt="a dog"), "a cat"), "prompt"),
        (lambda: read_query(request(width="513"), "a cat"), "width"),
        (lambda: read_query(request(no_such="1"), "a cat"), "no_such"),
        (lambda: read_form(request(seed="7")), "prompt"),
        (lambda: read_body(request(b'{"prompt": "a cat", "seed": "seven"}')), "seed"),
        (lambda: read_body(request(b"{}")), "prompt"),
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
