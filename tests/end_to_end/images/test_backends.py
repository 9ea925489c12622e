"""Models whose endpoints have the containers of other backends, through the whole gateway.

A gateway of its own, because the pages and the recorded options of the shared one name its models.
"""

from __future__ import annotations

import io
import json

import pytest
import requests
from PIL import Image

from endpoint.emulator.process.clients import Clients
from tests.end_to_end.account import BUCKET
from tests.end_to_end.calls import get, picture_url
from tests.end_to_end.conftest import serve_locally
from tests.endpoint.emulator.container.imitations.doubles import (
    CONTAINERS,
    HOST,
    SETTINGS,
    VLLM_OMNI,
    Images,
    register,
)
from tests.endpoint.emulator.doubles import create_endpoint

DEFAULTS = {"steps": 4, "guidance_scale": 1.0, "width": 96, "height": 64}
QUEUED = "queued"


def endpoint_of(model):
    return f"easel-main-{model}"


@pytest.fixture(scope="module")
def images(aws):
    """What makes the images; the endpoints are those of CONTAINERS, and one with a queue."""
    made = Images()
    aws.imitations.images_from = made
    clients = Clients(lambda: aws.url)
    for name, container in CONTAINERS.items():
        options = HOST if container is VLLM_OMNI else {}
        create_endpoint(clients, name=endpoint_of(name), container=container, **options)
    place = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs/outputs/"}}
    create_endpoint(clients, place, endpoint_of(QUEUED), container=VLLM_OMNI, **HOST)
    register(aws, endpoint_of("openai-images"), made)
    yield made
    aws.imitations.images_from = None


@pytest.fixture(scope="module")
def url(images, gateway_environment):
    entries = {
        name: {"endpoint": endpoint_of(name), "backend": setting, "defaults": DEFAULTS}
        for name, setting in SETTINGS.items()
    }
    queue = {"endpoint": endpoint_of(QUEUED), "jobs": f"s3://{BUCKET}/jobs/"}
    entries[QUEUED] = {"asynchronous": queue, "backend": "vllm-omni", "defaults": DEFAULTS}
    with serve_locally({**gateway_environment, "EASEL_MODELS": json.dumps(entries)}) as url:
        yield url


@pytest.fixture(params=CONTAINERS)
def model(request, images):
    images.requests.clear()
    return request.param


def picture(response):
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content))


def error(response, status):
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("application/json")
    return response.json()


def test_a_prompt_becomes_a_picture(url, model, images, prompt):
    image = picture(get(picture_url(url, prompt, model=model, width=128, height=64)))
    assert image.size == (128, 64)
    assert image.format == ("JPEG" if model == "jumpstart" else "PNG")
    request = images.last
    assert (request.prompt, request.width, request.height) == (prompt, 128, 64)


def test_the_models_defaults_are_used_and_not_the_containers(url, model, images, prompt):
    assert picture(get(picture_url(url, prompt, model=model))).size == (96, 64)
    assert (images.last.steps, images.last.guidance_scale) == (4, 1.0)


def test_a_seed_is_repeated_or_refused(url, model, images, prompt):
    response = get(picture_url(url, prompt, model=model, seed=7))
    if model == "hugging-face":
        content = error(response, 400)
        assert "seed: the model hugging-face cannot repeat a picture" in json.dumps(content)
        assert images.requests == []
    else:
        picture(response)
        assert images.last.seed == 7
        assert response.headers["X-Seed"] == "7"


def test_a_picture_that_cannot_be_repeated_has_no_seed(url, images, prompt):
    response = get(picture_url(url, prompt, model="hugging-face"))
    picture(response)
    assert "X-Seed" not in response.headers
    assert "immutable" not in response.headers["Cache-Control"]


def test_a_lora_reaches_the_container_by_its_path(url, images, prompt):
    picture(get(picture_url(url, prompt, model="vllm-omni", lora="pixel:0.5")))
    assert images.last.lora == ("/opt/ml/model/loras/pixel.safetensors", 0.5)


def test_an_uncompressed_png_fits_into_a_response_of_lambda(url, images, prompt):
    size = {"width": 1_536, "height": 1_536}
    response = get(picture_url(url, prompt, model="vllm-omni", **size))
    image = picture(response)
    assert image.size == (1_536, 1_536)
    # Without compression it has 7 MB, and base64 a third more.
    assert len(response.content) < 6 * 2**20 * 3 / 4


def test_openais_dialect_uses_any_backend(url, model, images, prompt):
    response = requests.post(
        f"{url}/v1/images/generations",
        json={"model": model, "prompt": prompt, "response_format": "b64_json"},
        timeout=30,
    )
    assert response.status_code == 200, response.text
    assert response.json()["data"][0]["b64_json"]
    assert images.last.prompt == prompt


def test_a_queued_picture_of_vllm_omni_comes_back(url, images, prompt):
    image = picture(get(picture_url(url, prompt, model=QUEUED, seed=7, width=128, height=64)))
    assert (image.format, image.size) == ("PNG", (128, 64))


def test_a_first_request_of_more_than_a_minute_is_no_picture_and_the_next_one_is(
    url, images, emulator, prompt
):
    address = picture_url(url, prompt, model="vllm-omni", seed=7)
    # SageMaker's minute is over before the gateway's own deadline, which test_failures.py has.
    emulator.set_clock(speed=60)
    try:
        with emulator.fault(endpoint_of("vllm-omni"), "slow", seconds=90, times=1):
            content = error(get(address), 502)
    finally:
        emulator.set_clock(speed=1)
    assert content["error"]["code"] == "endpoint_failed"
    picture(get(address))


def test_what_fails_in_a_container_is_no_fault_of_the_caller(url, model, aws, images, prompt):
    aws.imitations.images_from = failing = Images(error=RuntimeError("cuDNN error: FAILED"))
    register(aws, endpoint_of("openai-images"), failing)
    try:
        response = get(picture_url(url, prompt, model=model))
    finally:
        aws.imitations.images_from = images
        register(aws, endpoint_of("openai-images"), images)
    assert error(response, 502)["error"]["code"] == "endpoint_failed"


@pytest.mark.parametrize(("field", "value"), [("guidance_scale", 25), ("width", 72)])
def test_what_a_container_would_refuse_or_round_is_a_400(url, images, prompt, field, value):
    images.requests.clear()
    response = get(picture_url(url, prompt, model="vllm-omni", **{field: value}))
    assert error(response, 400)["error"]["field"] == field
    assert images.requests == []
