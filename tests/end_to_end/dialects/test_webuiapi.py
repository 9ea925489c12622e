"""The client library webuiapi, unmodified, with nothing changed but the base URL."""

from contextlib import ExitStack

import pytest
import webuiapi

from tests.end_to_end.account import ASYNC_ENDPOINT, ENDPOINT, MODELS


@pytest.fixture
def connect():
    """Return a function that makes a client of the gateway at a URL."""
    with ExitStack() as stack:

        def connect(url):
            client = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1")
            stack.callback(client.session.close)
            return client

        yield connect


@pytest.fixture
def api(gateway_url, connect):
    return connect(gateway_url)


def test_it_starts_and_finds_what_there_is(api):
    assert api.util_get_model_names() == sorted(MODELS)
    assert api.util_get_current_model() == "sd"
    assert api.util_get_sampler_names() == ["Automatic"]
    assert api.util_get_scheduler_names() == ["automatic"]
    assert api.get_loras() == api.get_upscalers() == api.get_sd_vae() == []
    assert api.get_cmd_flags() == {}
    api.util_wait_for_ready()


def test_a_picture_comes_back_with_what_made_it(api, emulator, prompt):
    result = api.txt2img(
        prompt=f"{prompt} <lora:pixel:0.5>", negative_prompt="a dog", seed=7, width=128, height=64
    )

    assert result.image.size == (128, 64)
    assert result.info["seed"] == 7
    assert result.info["infotexts"][0].startswith(f"{prompt} <lora:pixel:0.5>\nNegative prompt: ")
    assert result.parameters["cfg_scale"] == 7.0
    assert len(emulator.requests(ENDPOINT)) == 1


def test_several_pictures_come_side_by_side(api, prompt):
    result = api.txt2img(prompt=prompt, batch_size=2, n_iter=2, seed=1)

    assert result.info["all_seeds"] == [1, 2, 3, 4]
    assert len({picture.tobytes() for picture in result.images}) == 4


def test_a_slow_model_is_waited_for_in_one_run(impatient_url, connect, emulator, prompt, cold):
    result = connect(impatient_url).txt2img(
        prompt=prompt, seed=7, batch_size=2, override_settings={"sd_model_checkpoint": "sdxl"}
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
    described = api.set_options({"sd_model_checkpoint": "sdxl"})

    assert "override_settings" in described["detail"][0]["msg"]
