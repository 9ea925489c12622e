"""Vercel's AI SDK, unmodified, with nothing changed but the base URL."""

import base64
import io

import pytest
from PIL import Image

from tests.end_to_end.account import ASYNC_ENDPOINT
from tests.end_to_end.calls import bodies

PROVIDERS = ["openai", "compatible"]


@pytest.fixture
def generate(node):
    return lambda url, **body: node("vercel.js", f"{url}/v1", body)


def sizes(answer):
    files = [base64.b64decode(picture["base64"]) for picture in answer["pictures"]]
    return [Image.open(io.BytesIO(file)).size for file in files]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_pictures_of_a_size(gateway_url, generate, emulator, prompt, provider):
    answer = generate(gateway_url, provider=provider, model="sd", prompt=prompt, n=2, size="128x64")

    assert sizes(answer) == [(128, 64)] * 2
    assert {request["prompt"] for request in bodies(emulator)} == {prompt}


def test_a_model_of_openais_own_is_painted_by_the_default_one(
    gateway_url, generate, emulator, prompt
):
    answer = generate(
        gateway_url,
        provider="openai",
        model="gpt-image-1",
        prompt=prompt,
        providerOptions={"openai": {"quality": "high", "outputFormat": "webp"}},
    )

    assert answer["pictures"][0]["mediaType"] == "image/webp"
    assert [request["prompt"] for request in bodies(emulator)] == [prompt]


def test_the_contracts_own_fields_are_options_of_the_provider(
    gateway_url, generate, emulator, prompt
):
    generate(
        gateway_url,
        provider="compatible",
        model="sd",
        prompt=prompt,
        providerOptions={"easel": {"seed": 7, "steps": 3, "negative_prompt": "a dog"}},
    )

    (request,) = bodies(emulator)
    assert (request["seed"], request["steps"], request["negative_prompt"]) == (7, 3, "a dog")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_slow_model_is_waited_for_in_one_run(
    impatient_url, generate, emulator, prompt, cold, provider
):
    answer = generate(impatient_url, provider=provider, model="sdxl", prompt=prompt)

    assert len(answer["pictures"]) == 1
    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_says_what_is_wrong(gateway_url, generate, emulator, provider):
    error = generate(gateway_url, provider=provider, model="sd", prompt="a cat", size="100x100")

    assert error["status"] == 400
    assert "multiple of 8" in error["message"]
    assert emulator.requests() == []
