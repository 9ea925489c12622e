"""The client library webuiapi, unmodified, with nothing changed but the base URL."""

import secrets

import pytest
import webuiapi

from tests.end_to_end.conftest import ASYNC_ENDPOINT, ENDPOINT
from tests.end_to_end.test_jobs import cold  # noqa: F401 (a fixture)


@pytest.fixture
def wish():
    return f"a cat with {secrets.token_hex(8)}"


@pytest.fixture
def api(door):
    client = webuiapi.WebUIApi(baseurl=f"{door}/sdapi/v1")
    yield client
    client.session.close()


def test_it_starts_and_finds_what_there_is(api):
    assert api.util_get_model_names() == ["both", "gone", "sd", "sdxl"]
    assert api.util_get_current_model() == "sd"
    assert api.util_get_sampler_names() == ["Automatic"]
    assert api.util_get_scheduler_names() == ["automatic"]
    assert api.get_loras() == api.get_upscalers() == api.get_sd_vae() == []
    assert api.get_cmd_flags() == {}
    api.util_wait_for_ready()


def test_a_picture_comes_back_with_what_made_it(api, emulator, wish):
    result = api.txt2img(
        prompt=f"{wish} <lora:pixel:0.5>", negative_prompt="a dog", seed=7, width=128, height=64
    )

    assert result.image.size == (128, 64)
    assert result.info["seed"] == 7
    assert result.info["infotexts"][0].startswith(f"{wish} <lora:pixel:0.5>\nNegative prompt: ")
    assert result.parameters["cfg_scale"] == 7.0
    assert len(emulator.requests(ENDPOINT)) == 1


def test_several_pictures_come_side_by_side(api, wish):
    result = api.txt2img(prompt=wish, batch_size=2, n_iter=2, seed=1)

    assert result.info["all_seeds"] == [1, 2, 3, 4]
    assert len({picture.tobytes() for picture in result.images}) == 4


def test_a_slow_model_is_waited_for_in_one_run(api, emulator, wish, cold):  # noqa: F811
    result = api.txt2img(
        prompt=wish, seed=7, batch_size=2, override_settings={"sd_model_checkpoint": "sdxl"}
    )

    assert len(result.images) == 2
    assert result.info["all_seeds"] == [7, 8]
    assert result.info["sd_model_name"] == "sdxl"
    assert emulator.runs(ASYNC_ENDPOINT) == 2


def test_an_error_says_what_is_wrong(api, emulator):
    with pytest.raises(RuntimeError, match="cfg_scale: must be a number from 0 to 30"):
        api.txt2img(prompt="a cat", cfg_scale=31)

    assert emulator.requests() == []


def test_the_default_model_may_be_set_and_no_other(api):
    api.util_set_model("sd")
    told = api.set_options({"sd_model_checkpoint": "sdxl"})

    assert "override_settings" in told["detail"][0]["msg"]
