"""The server with Easel's own script and a tiny model, and the same picture without it."""

import json

import pytest

from endpoint.emulator.process.processes import ROOT
from tests.model_package.conftest import QUICK
from tests.model_package.server.served import serving

CODE = ROOT / "model_package" / "code"


@pytest.fixture(scope="module")
def model(stand_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with serving(
        folder, "--model", str(stand_in()), code=CODE, EASEL_DEFAULTS=QUICK, OMP_NUM_THREADS="1"
    ) as server:
        yield server.ready()


def test_a_picture_is_the_same_with_and_without_the_server(model, quick_toolkit):
    request = {"prompt": "a cat", "seed": 7}
    served = model.invoke(request["prompt"], seed=7)

    assert served.status == 200, served.data
    assert served.headers["Content-Type"] == "image/png"
    assert served.data == quick_toolkit.post(request, accept="image/png").body


def test_the_model_describes_itself_without_painting(model):
    response = model.request(
        "POST", "/invocations", '{"describe": true}', Content_Type="application/json"
    )
    assert {"fields", "defaults", "loras"} <= set(response.json())


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"lora": "nowhere"}, "lora"), ({"steps": 0}, "steps"), ({"width": 65}, "width")],
)
def test_what_the_model_cannot_do_is_a_400_that_names_the_field(model, fields, field):
    response = model.invoke(**fields)
    assert response.status == 400
    assert response.json()["error"]["field"] == field


def test_a_url_is_a_picture_in_the_format_that_it_names(model):
    response = model.get("/predict?prompt=7&seed=7&format=webp&steps=1&guidance_scale=2.5")
    assert (response.status, response.headers["Content-Type"]) == (200, "image/webp")
    response = model.get("/predict?prompt=7&seed=7&steps=1", Accept="application/json")
    assert response.json()["request"]["prompt"] == "7"


def test_a_deadline_of_the_gateway_is_kept(model):
    headers = {"X_Amzn_SageMaker_Custom_Attributes": "trace;until=1.5"}
    response = model.invoke(headers=headers)
    assert (response.status, response.json()["error"]["code"]) == (504, "too_slow")


def test_health_shows_the_sizes_of_batches(model):
    batch = json.loads(model.get("/health").data)["batch"]
    assert batch["capacity"] >= 1
    assert batch["mode"] == "auto"
