"""A model's own limits, in every API: refused by name, before anything is paid or queued."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.generation import RULES, GenerationRequest
from chalicelib.images.resolved_request import complete, job_id
from chalicelib.settings import Settings
from tests.gateway.doubles import GatewayClient

LIMITS = {"steps": {"minimum": 4, "maximum": 50}, "width": {"multipleOf": 32}}
LCM = {"endpoint": "easel-lcm", "defaults": {"steps": 40}, "limits": LIMITS}


@pytest.fixture
def client(monkeypatch):
    return offering(monkeypatch)


def offering(monkeypatch):
    client = GatewayClient(monkeypatch)
    models = {"lcm": LCM, "sd": {"endpoint": "easel-sd"}}
    client.offer(Settings.from_environment({"EASEL_MODELS": json.dumps(models)}).models)
    return client


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/inference/a?steps=51", None, 400, "steps"),
        ("/inference/a?steps=3", None, 400, "steps"),
        ("/inference/a?width=72", None, 400, "width"),
        ("/inference?steps=51", None, 400, "steps"),
        ("/v1/images/generations", {"steps": 51}, 400, "steps"),
        ("/v1/images/generations", {"size": "72x64"}, 400, "size"),
        ("/v1/images/generations", {"width": 72}, 400, "width"),
        ("/v1/images/generations", {"steps": 51, "response_format": "url"}, 400, "steps"),
        ("/sdapi/v1/txt2img", {"steps": 51}, 422, "steps"),
    ],
)
def test_a_value_outside_the_models_limits_is_named(client, path, body, status, field):
    response = client.get(path) if body is None else client.post(path, {"prompt": "a", **body})
    said = response.body.decode()

    assert (response.status_code, client.asked) == (status, [])
    assert "for the model lcm" in said
    assert json.loads(said).get("error", {}).get("field" if path[1] == "i" else "param") in {
        field if status == 400 else None
    }
    assert "Retry-After" not in response.headers


def test_another_model_has_the_limits_of_the_contract(client):
    assert client.get("/inference/a?steps=51&width=72&model=sd").status_code == 200


def test_a_quality_stays_within_the_models_limits(client):
    order = {"prompt": "a", "quality": "max"}
    client.post("/v1/images/generations", order)

    assert client.asked[0]["steps"] == 50


def test_the_options_have_the_limits_of_each_model(client):
    lcm, sd = json.loads(client.get("/options").body)["models"]

    assert lcm["limits"]["steps"] == {"type": "integer", "minimum": 4, "maximum": 50}
    assert "limits" not in sd


@given(st.integers(1, 100), st.integers(8, 192).map(lambda eighth: eighth * 8))
def test_what_the_options_allow_is_what_the_gateway_accepts(steps, width):
    with pytest.MonkeyPatch.context() as monkeypatch:
        client = offering(monkeypatch)
        limits = json.loads(client.get("/options").body)["models"][0]["limits"]
        allowed = (
            limits["steps"]["minimum"] <= steps <= limits["steps"]["maximum"]
            and width % limits["width"]["multipleOf"] == 0
        )
        response = client.get(f"/inference/a?steps={steps}&width={width}")

    assert response.status_code == (200 if allowed else 400)


def test_a_picture_without_the_field_has_the_same_id_with_and_without_limits(client):
    request = GenerationRequest(prompt="a", seed=1)
    with_limits = job_id(complete(client.service.settings, request), "")
    models = {"lcm": {**LCM, "limits": {}}}
    client.offer(Settings.from_environment({"EASEL_MODELS": json.dumps(models)}).models)

    assert job_id(complete(client.service.settings, request), "") == with_limits
    assert set(LIMITS) < set(RULES)
