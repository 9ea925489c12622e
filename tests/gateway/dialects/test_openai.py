"""OpenAI's dialect: what front ends are known to send, and the corners of it."""

import base64
import json

import pytest

from chalicelib.dialects.openai import QUALITIES
from chalicelib.settings import Model
from tests import recorded
from tests.gateway.test_app import log, visitor  # noqa: F401 (fixtures)

BODIES = {
    name: each["body"]
    for name, each in recorded.BODIES.items()
    if each["path"] == "/v1/images/generations"
}
DEFAULTS = {
    "sd": {"steps": 25, "guidance_scale": 7.5, "width": 512, "height": 512},
    "turbo": {"steps": 4},
    "slow": {"steps": 80},
    "unknown": {},
}


def post(visitor, body, path="/v1/images/generations"):  # noqa: F811
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return visitor.post(path, content)


@pytest.mark.parametrize("program", BODIES)
def test_what_a_front_end_sends_is_painted(visitor, program):  # noqa: F811
    response = post(visitor, BODIES[program])

    data = json.loads(response.body)["data"]
    assert len(data) == BODIES[program]["n"]
    start = b"RIFF" if BODIES[program].get("output_format") == "webp" else b"\x89PNG"
    assert all(base64.b64decode(each["b64_json"]).startswith(start) for each in data)
    assert {asked["prompt"] for asked in visitor.asked} == {"a cat"}


def offering(visitor):  # noqa: F811
    """Let the visitor's gateway offer models of which some know their own steps."""
    models = {name: Model(name, "easel-sd", defaults=each) for name, each in DEFAULTS.items()}
    visitor.offer(models)
    return visitor


@pytest.mark.parametrize(
    ("model", "quality", "steps"),
    [
        ("sd", "low", 12),
        ("sd", "medium", None),
        ("sd", "auto", None),
        ("sd", "standard", None),
        ("sd", "high", 38),
        ("sd", "hd", 38),
        ("sd", "xhigh", 50),
        ("sd", "max", 50),
        ("slow", "max", 100),
        ("turbo", "high", None),
        ("turbo", "low", None),
        ("unknown", "high", None),
    ],
)
def test_quality_is_a_share_of_the_models_own_steps(visitor, model, quality, steps):  # noqa: F811
    post(offering(visitor), {"prompt": "a cat", "model": model, "quality": quality})

    (asked,) = visitor.asked
    assert asked.get("steps") == steps


def test_steps_that_are_named_count_more_than_quality(visitor):  # noqa: F811
    post(offering(visitor), {"prompt": "a cat", "quality": "high", "steps": 3})

    assert visitor.asked[0]["steps"] == 3


def test_a_quality_that_there_is_not_is_a_400_with_those_that_there_are(visitor):  # noqa: F811
    response = post(visitor, {"prompt": "a cat", "quality": "superb"})

    error = json.loads(response.body)["error"]
    assert (response.status_code, error["param"]) == (400, "quality")
    assert all(name in error["message"] for name in QUALITIES)


def test_the_same_field_under_two_names_is_refused(visitor):  # noqa: F811
    response = post(visitor, {"prompt": "a cat", "cfg": 3, "guidance_scale": 4})

    assert (response.status_code, json.loads(response.body)["error"]["param"]) == (400, "cfg")


def test_a_model_that_is_no_text_is_refused(visitor):  # noqa: F811
    response = post(visitor, {"prompt": "a cat", "model": 7})

    assert (response.status_code, json.loads(response.body)["error"]["param"]) == (400, "model")


@pytest.mark.parametrize("stream", [True, {}, [], "no", 0])
def test_a_stream_of_any_kind_is_refused(visitor, stream):  # noqa: F811
    response = post(visitor, {"prompt": "a cat", "stream": stream})

    assert (response.status_code, json.loads(response.body)["error"]["param"]) == (400, "stream")


def test_what_lobehub_calls_cfg_is_the_guidance_scale(visitor):  # noqa: F811
    post(visitor, BODIES["lobehub_diffusion"])

    (asked,) = visitor.asked
    assert (asked["guidance_scale"], asked["steps"], asked["seed"]) == (7.0, 20, 7)
    assert (asked["width"], asked["height"]) == (512, 512)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"[" * 100_000, b'"text"', b"\xff"])
def test_a_body_that_is_no_json_object_is_a_400(visitor, body):  # noqa: F811
    response = post(visitor, body)

    assert response.status_code == 400
    assert json.loads(response.body)["error"]["type"] == "invalid_request_error"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("name", ["edits", "variations"])
def test_what_starts_from_a_picture_is_refused_by_name(visitor, name):  # noqa: F811
    response = post(visitor, b"--boundary", path=f"/v1/images/{name}")

    error = json.loads(response.body)["error"]
    assert (response.status_code, error["code"]) == (404, "not_offered")
    assert "/v1/images/generations" in error["message"]


def test_one_model_is_told_of_by_name(visitor):  # noqa: F811
    found, unknown = visitor.get("/v1/models/sdxl"), visitor.get("/v1/models/dall-e-3")

    assert json.loads(found.body)["id"] == "sdxl"
    assert unknown.status_code == 404
    assert "sd, sdxl" in json.loads(unknown.body)["error"]["message"]


def test_the_log_says_how_many_pictures_and_not_of_what(visitor, log):  # noqa: F811
    post(visitor, {"prompt": "a secret wish", "n": 2})

    lines = log()
    assert json.loads(lines[0])["pictures"] == 2
    assert "secret" not in "".join(lines)
