"""What clients of AUTOMATIC1111's web UI ask before they generate."""

import json

import pytest

from chalicelib.dialects.automatic1111_lists import EMPTY, FROM_PICTURES, REFRESHED
from chalicelib.settings import Model


def get(client, name):
    response = client.get(f"/sdapi/v1/{name}")
    assert response.status_code == 200
    return json.loads(response.body)


def set_options(client, options):
    return client.post("/sdapi/v1/options", json.dumps(options).encode())


def test_the_models_have_the_titles_that_a_request_can_name(client):
    titles = [model["title"] for model in get(client, "sd-models")]

    assert titles == ["sd", "sdxl"]
    assert get(client, "options")["sd_model_checkpoint"] == "sd"


def test_a_model_with_a_revision_has_a_short_hash(client):
    client.offer({"sd": Model("sd", "easel-sd", revision="451f4fe16113bff5a5d2")})

    assert get(client, "sd-models")[0]["hash"] == "451f4fe161"


def test_adapters_are_listed_once_with_their_models(client):
    client.offer(
        {
            "sd": Model("sd", "easel-sd", loras=("pixel", "ink")),
            "sdxl": Model("sdxl", "easel-sdxl", loras=("pixel",)),
            "other": Model("other", "easel-other"),
        }
    )
    listed = {each["name"]: each["metadata"]["models"] for each in get(client, "loras")}

    assert listed == {"ink": ["sd"], "pixel": ["sd", "sdxl"]}


def test_there_is_one_sampler_and_one_schedule(client):
    assert [each["name"] for each in get(client, "samplers")] == ["Automatic"]
    assert [each["name"] for each in get(client, "schedulers")] == ["automatic"]


def test_progress_is_that_of_an_idle_web_ui(client):
    described = get(client, "progress?skip_current_image=true")

    assert (described["progress"], described["state"]["job_count"]) == (0.0, 0)


@pytest.mark.parametrize("path", EMPTY)
def test_what_the_gateway_does_not_have_is_empty_in_its_own_shape(client, path):
    assert get(client, path.removeprefix("/sdapi/v1/")) == EMPTY[path]


@pytest.mark.parametrize(
    "options", [{}, {"sd_model_checkpoint": "sd"}, {"CLIP_stop_at_last_layers": 1}]
)
def test_settings_that_are_so_already_are_accepted(client, options):
    assert set_options(client, options).status_code == 200


@pytest.mark.parametrize(
    "options", [{"sd_model_checkpoint": "sdxl"}, {"samples_format": "webp"}, {"sd_vae": "x.pt"}]
)
def test_a_setting_that_nothing_would_remember_is_refused(client, options):
    response = set_options(client, options)

    assert response.status_code == 422
    (name,) = options
    assert json.loads(response.body)["detail"][0]["loc"] == ["body", name]


@pytest.mark.parametrize("path", REFRESHED)
def test_the_lists_are_always_up_to_date(client, path):
    response = client.post(path, b"")

    assert (response.status_code, json.loads(response.body)) == (200, None)


@pytest.mark.parametrize("name", ["interrupt", "skip"])
def test_a_picture_under_way_cannot_be_stopped(client, name):
    response = client.post(f"/sdapi/v1/{name}", b"")

    described = json.loads(response.body)
    assert (response.status_code, described["error"]) == (404, "not_offered")
    assert "cannot be stopped" in described["detail"]


@pytest.mark.parametrize("path", FROM_PICTURES)
def test_what_starts_from_a_picture_is_refused_by_name(client, path):
    response = client.post(path, b'{"init_images": []}')

    assert response.status_code == 404
    assert "txt2img" in json.loads(response.body)["detail"]
