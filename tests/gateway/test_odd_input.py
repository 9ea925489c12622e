"""Input that is no text: it is refused with a 400, and stays out of responses and of the log."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib import telemetry
from chalicelib.access_settings import Protection
from tests.conftest import ALL
from tests.gateway.doubles import BROWSER, KEY, GuardedClient, guarded

FORGED = '{"level":"INFO","forged":"FORGEDMARK"}'
BODIES = ["/jobs", "/links", "/session", "/v1/images/generations", "/sdapi/v1/txt2img"]
PATHS = ["/inference/a%20cat", "/inference", "/sentence", "/jobs/x", "/v1/models/x", "/"]
ODD = st.text(st.sampled_from('a\n\r\0"\\{}<>&%/\u2028\ud800\udfff\ue000\U0010ffff'), max_size=8)
NESTED = st.recursive(
    ODD | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["prompt", "seed", "key", "size", "pictures", "n", "override_settings"])
REQUESTS = st.dictionaries(FIELDS | ODD, NESTED, max_size=4)
ONE_CLIENT = settings(
    max_examples=60 if ALL else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(params=["keys", "open"])
def client(request, monkeypatch):
    return GuardedClient(monkeypatch, guarded() if request.param == "keys" else Protection())


def check(response, log):
    """Check that a response is one of ours, and that the log has nothing but whole lines."""
    if not response.headers.get("Content-Type", "").startswith("image/"):
        response.body.decode()
    assert b"InternalServerError" not in response.body
    assert response.status_code < 500, response.body
    assert all(json.loads(line).get("forged") is None for line in log())
    "".join(log()).encode()


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "body",
    [
        {f"x\n{FORGED}\n\ud800": 1},
        {"prompt": "\ud800", "key": "\ud800", "pictures": "\ud800"},
        {"prompt": "a", "x": {f"\n{FORGED}\n": ["\udfff"]}},
    ],
)
def test_half_of_a_surrogate_pair_is_a_bad_request(client, log, path, body):
    response = client.post(path, body, x_api_key=KEY)

    assert response.status_code in {400, 422}
    # Without keys there are no links, whatever the body is.
    assert b"surrogate" in response.body or b"no keys" in response.body
    check(response, log)


@ONE_CLIENT
@given(path=st.sampled_from(BODIES), body=REQUESTS, as_page=st.booleans())
@example(path="/jobs", body={"\ud800": 1}, as_page=True)
def test_no_body_is_answered_by_chalice_or_forges_the_log(client, log, path, body, as_page):
    check(client.post(path, body, x_api_key=KEY, **(BROWSER if as_page else {})), log)


@ONE_CLIENT
@given(path=st.sampled_from(BODIES), body=st.binary(max_size=12))
@example(path="/jobs", body=b'{"\xed\xa0\x80": 1}')
def test_no_bytes_are_answered_by_chalice(client, log, path, body):
    check(client.request("POST", path, body, x_api_key=KEY), log)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("more", ["?%ED%A0%80=1", "?\ud800=1", "?prompt=\ud800", "?link=\ud800"])
def test_no_parameter_is_answered_by_chalice(client, log, path, more):
    for headers in ({}, BROWSER, {"x_api_key": "\ud800"}, {"Cookie": "easel_session=\ud800"}):
        check(client.get(path + more, **headers), log)


@pytest.mark.parametrize("text", ["\ud800", "%ED%A0%80", "a\ud800b", "%ff"])
def test_a_path_that_is_no_text_is_a_bad_request(client, log, text):
    response = client.get(f"/inference/{text}", x_api_key=KEY)

    assert response.status_code == 400
    check(response, log)


def test_a_request_that_cannot_be_read_is_a_plain_500(client, log, monkeypatch):
    def unreadable(_):
        raise ValueError(f"\n{FORGED}\n\ud800")

    monkeypatch.setattr("chalicelib.web.routing._body", unreadable)
    response = client.post("/jobs", {})

    assert response.status_code == 500
    assert json.loads(response.body)["error"]["code"] == "internal_error"
    assert len([json.loads(line) for line in log()]) == 2


def test_a_line_of_the_log_is_always_one_that_can_be_written(log):
    telemetry.LogRecord().add(odd="\ud800")
    telemetry.logger.info("visit", extra={"odd": f"\n{FORGED}\n\ud800 é"})

    (line,) = log()
    line.encode()
    assert json.loads(line)["odd"] == f"\n{FORGED}\n\ud800 é"
    assert "é" in line
