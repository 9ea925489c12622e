"""OpenAI's dialect: recorded requests of front ends, and its corner cases."""

import base64
import json

import pytest

from chalicelib.batches.openai import QUALITIES
from chalicelib.dialects.openai import ROUTE, render_error
from chalicelib.errors import Unauthorized
from chalicelib.settings import Model
from chalicelib.web.request import Request
from tests import recorded

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


@pytest.mark.parametrize("program", BODIES)
def test_what_a_front_end_sends_generates_a_picture(client, program):
    response = client.post(ROUTE, BODIES[program])

    data = json.loads(response.body)["data"]
    assert len(data) == BODIES[program]["n"]
    start = b"RIFF" if BODIES[program].get("output_format") == "webp" else b"\x89PNG"
    assert all(base64.b64decode(each["b64_json"]).startswith(start) for each in data)
    assert {asked["prompt"] for asked in client.asked} == {"a cat"}


def offering(client):
    """Let the gateway offer models of which some have their own steps configured."""
    models = {name: Model(name, "easel-sd", defaults=each) for name, each in DEFAULTS.items()}
    client.offer(models)
    return client


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
def test_quality_is_a_share_of_the_models_own_steps(client, model, quality, steps):
    offering(client).post(ROUTE, {"prompt": "a cat", "model": model, "quality": quality})

    (asked,) = client.asked
    assert asked.get("steps") == steps


def test_steps_that_are_named_count_more_than_quality(client):
    offering(client).post(ROUTE, {"prompt": "a cat", "quality": "high", "steps": 3})

    assert client.asked[0]["steps"] == 3


def test_an_unknown_quality_is_a_400_that_lists_the_qualities(client):
    response = client.post(ROUTE, {"prompt": "a cat", "quality": "superb"})

    error = json.loads(response.body)["error"]
    assert (response.status_code, error["param"]) == (400, "quality")
    assert all(name in error["message"] for name in QUALITIES)


def test_the_same_field_under_two_names_is_refused(client):
    response = client.post(ROUTE, {"prompt": "a cat", "cfg": 3, "guidance_scale": 4})

    assert (response.status_code, json.loads(response.body)["error"]["param"]) == (400, "cfg")


def test_a_model_that_is_not_text_is_refused(client):
    response = client.post(ROUTE, {"prompt": "a cat", "model": 7})

    assert (response.status_code, json.loads(response.body)["error"]["param"]) == (400, "model")


@pytest.mark.parametrize("stream", [True, {}, [], "yes", 1, "", 2])
def test_a_stream_of_any_kind_is_refused(client, stream):
    response = client.post(ROUTE, {"prompt": "a cat", "stream": stream})

    assert (response.status_code, json.loads(response.body)["error"]["param"]) == (400, "stream")


@pytest.mark.parametrize("stream", [False, 0, "false", "no", None])
def test_no_stream_can_be_spelled_in_any_way(client, stream):
    assert client.post(ROUTE, {"prompt": "a cat", "stream": stream}).status_code == 200


def test_transparent_pictures_are_refused(client):
    response = client.post(ROUTE, {"prompt": "a cat", "background": "transparent"})

    assert (response.status_code, json.loads(response.body)["error"]["param"]) == (
        400,
        "background",
    )
    assert client.asked == []
    for background in ("auto", "opaque", "", None):
        response = client.post(ROUTE, {"prompt": "a cat", "background": background})
        assert response.status_code == 200


def test_what_lobehub_calls_cfg_is_the_guidance_scale(client):
    client.post(ROUTE, BODIES["lobehub_diffusion"])

    (asked,) = client.asked
    assert (asked["guidance_scale"], asked["steps"], asked["seed"]) == (7.0, 20, 7)
    assert (asked["width"], asked["height"]) == (512, 512)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"[" * 100_000, b'"text"', b"\xff"])
def test_a_body_that_is_not_a_json_object_is_a_400(client, body):
    response = client.post(ROUTE, body)

    assert response.status_code == 400
    assert json.loads(response.body)["error"]["type"] == "invalid_request_error"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("name", ["edits", "variations"])
def test_what_starts_from_a_picture_is_refused_by_name(client, name):
    response = client.post(f"/v1/images/{name}", b"--boundary")

    error = json.loads(response.body)["error"]
    assert (response.status_code, error["code"]) == (404, "not_offered")
    assert "/v1/images/generations" in error["message"]


def test_one_model_is_described_by_name(client):
    existing, unknown = client.get("/v1/models/sdxl"), client.get("/v1/models/dall-e-3")

    assert json.loads(existing.body)["id"] == "sdxl"
    assert unknown.status_code == 404
    assert "sd, sdxl" in json.loads(unknown.body)["error"]["message"]


def test_the_log_says_how_many_pictures_and_not_of_what(client, log):
    client.post(ROUTE, {"prompt": "a secret wish", "n": 2})

    lines = log()
    assert json.loads(lines[0])["pictures"] == 2
    assert "secret" not in "".join(lines)


@pytest.mark.parametrize("sides", [{"width": 64}, {"height": 64}, {"width": 512, "height": 512}])
def test_two_sizes_contradict_each_other(client, sides):
    response = client.post(ROUTE, {"prompt": "a cat", "size": "512x512", **sides})

    assert response.status_code == 400
    assert json.loads(response.body)["error"]["param"] == "size"
    assert client.asked == []


@pytest.mark.parametrize("spell", [int, float, str, lambda number: f"{number}.0"])
def test_numbers_are_read_however_a_client_spells_them(client, spell):
    fields = {name: spell(number) for name, number in {"n": 2, "seed": 7, "steps": 20}.items()}
    client.post(ROUTE, {"prompt": "a cat", **fields})

    assert sorted((asked["seed"], asked["steps"]) for asked in client.asked) == [(7, 20), (8, 20)]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model": "dall-e-2"}, "url"),
        ({"model": "dall-e-3"}, "url"),
        ({"model": "dall-e-3", "response_format": None}, "url"),
        ({"model": "dall-e-3", "response_format": "b64_json"}, "b64_json"),
        ({"model": "gpt-image-1"}, "b64_json"),
        ({"model": "sd"}, "b64_json"),
        ({}, "b64_json"),
    ],
)
def test_the_default_of_response_format_is_that_of_the_named_model(client, fields, kind):
    data = json.loads(client.post(ROUTE, {"prompt": "a cat", **fields}).body)["data"]

    assert set(data[0]) == {kind, "seed"}


@pytest.mark.parametrize(
    ("size", "used"),
    [
        ("1792x1024", "1512x864"),
        ("1024x1792", "864x1512"),
        ("2048x2048", "1536x1536"),
        ("3840x2160", "1536x864"),
        ("1024x1024", "1024x1024"),
        ("1536x1024", "1536x1024"),
    ],
)
@pytest.mark.parametrize("model", ["dall-e-3", "sd"])
def test_a_size_of_openais_models_is_the_nearest_of_its_shape(client, size, used, model):
    response = client.post(
        ROUTE, {"prompt": "a cat", "size": size, "model": model, "output_format": "webp"}
    )

    assert json.loads(response.body)["size"] == used


def test_any_other_size_beyond_the_limits_is_refused(client):
    response = client.post(ROUTE, {"prompt": "a cat", "size": "1800x1024", "model": "dall-e-3"})

    assert (response.status_code, json.loads(response.body)["error"]["param"]) == (400, "size")


@pytest.mark.parametrize("headers", [{"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}])
def test_a_wrong_key_is_named_as_openai_names_it(headers):
    request = Request("POST", ROUTE, ROUTE, headers, {}, "an-id")
    response = render_error(Unauthorized("Unknown or expired key."), request)

    error = json.loads(response.body)["error"]
    assert (response.status, error["code"]) == (401, "invalid_api_key")
    wrong = "Incorrect API key provided. Unknown or expired key. Send a key as `x-api-key: KEY`"
    assert error["message"].startswith(wrong)


def test_a_missing_key_is_not_called_incorrect():
    request = Request("POST", ROUTE, ROUTE, {}, {}, "an-id")
    response = render_error(Unauthorized("An API key is required."), request)

    assert json.loads(response.body)["error"]["message"].startswith("An API key is required. Send")
