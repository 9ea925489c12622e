"""What clients of AUTOMATIC1111's web UI ask before they paint."""

import json

import pytest

from chalicelib.dialects.automatic1111_lists import FRESH, FROM_PICTURES, NOTHING
from chalicelib.settings import Model
from tests.gateway.test_app import visitor  # noqa: F401 (a fixture)


def get(visitor, name):  # noqa: F811
    response = visitor.get(f"/sdapi/v1/{name}")
    assert response.status_code == 200
    return json.loads(response.body)


def set_options(visitor, options):  # noqa: F811
    return visitor.post("/sdapi/v1/options", json.dumps(options).encode())


def test_the_models_have_the_titles_that_a_request_may_name(visitor):  # noqa: F811
    titles = [model["title"] for model in get(visitor, "sd-models")]

    assert titles == ["sd", "sdxl"]
    assert get(visitor, "options")["sd_model_checkpoint"] == "sd"


def test_a_model_of_which_the_weights_are_known_has_a_short_hash(visitor):  # noqa: F811
    visitor.offer({"sd": Model("sd", "easel-sd", revision="451f4fe16113bff5a5d2")})

    assert get(visitor, "sd-models")[0]["hash"] == "451f4fe161"


def test_adapters_are_listed_once_with_their_models(visitor):  # noqa: F811
    visitor.offer(
        {
            "sd": Model("sd", "easel-sd", loras=("pixel", "ink")),
            "sdxl": Model("sdxl", "easel-sdxl", loras=("pixel",)),
            "other": Model("other", "easel-other"),
        }
    )
    listed = {each["name"]: each["metadata"]["models"] for each in get(visitor, "loras")}

    assert listed == {"ink": ["sd"], "pixel": ["sd", "sdxl"]}


def test_there_is_one_sampler_and_one_schedule(visitor):  # noqa: F811
    assert [each["name"] for each in get(visitor, "samplers")] == ["Automatic"]
    assert [each["name"] for each in get(visitor, "schedulers")] == ["automatic"]


def test_progress_is_that_of_an_idle_web_ui(visitor):  # noqa: F811
    told = get(visitor, "progress?skip_current_image=true")

    assert (told["progress"], told["state"]["job_count"]) == (0.0, 0)


@pytest.mark.parametrize("name", NOTHING)
def test_what_there_is_not_is_empty_in_its_own_shape(visitor, name):  # noqa: F811
    assert get(visitor, name) == NOTHING[name]


@pytest.mark.parametrize(
    "options", [{}, {"sd_model_checkpoint": "sd"}, {"CLIP_stop_at_last_layers": 1}]
)
def test_settings_that_are_so_already_are_accepted(visitor, options):  # noqa: F811
    assert set_options(visitor, options).status_code == 200


@pytest.mark.parametrize(
    "options", [{"sd_model_checkpoint": "sdxl"}, {"samples_format": "webp"}, {"sd_vae": "x.pt"}]
)
def test_a_setting_that_nothing_would_remember_is_refused(visitor, options):  # noqa: F811
    response = set_options(visitor, options)

    assert response.status_code == 422
    (name,) = options
    assert json.loads(response.body)["detail"][0]["loc"] == ["body", name]


@pytest.mark.parametrize("name", FRESH)
def test_the_lists_are_always_fresh(visitor, name):  # noqa: F811
    response = visitor.post(f"/sdapi/v1/{name}", b"")

    assert (response.status_code, json.loads(response.body)) == (200, None)


@pytest.mark.parametrize("name", ["interrupt", "skip"])
def test_a_picture_under_way_cannot_be_stopped(visitor, name):  # noqa: F811
    response = visitor.post(f"/sdapi/v1/{name}", b"")

    told = json.loads(response.body)
    assert (response.status_code, told["error"]) == (404, "not_offered")
    assert "cannot be stopped" in told["detail"]


@pytest.mark.parametrize("name", FROM_PICTURES)
def test_what_starts_from_a_picture_is_refused_by_name(visitor, name):  # noqa: F811
    response = visitor.post(f"/sdapi/v1/{name}", b'{"init_images": []}')

    assert response.status_code == 404
    assert "txt2img" in json.loads(response.body)["detail"]
