"""Vercel's AI SDK, unmodified, with nothing changed but the base URL."""

import base64
import io
import json
import secrets

import pytest
from PIL import Image

from tests.end_to_end.conftest import ASYNC_ENDPOINT, ENDPOINT
from tests.end_to_end.test_jobs import cold  # noqa: F401 (a fixture)

PROVIDERS = ["openai", "compatible"]


@pytest.fixture
def wish():
    return f"a cat with {secrets.token_hex(8)}"


@pytest.fixture
def generate(door, node):
    return lambda **body: node("vercel.js", f"{door}/v1", body)


def sizes(answer):
    files = [base64.b64decode(each["base64"]) for each in answer["pictures"]]
    return [Image.open(io.BytesIO(file)).size for file in files]


def asked(emulator):
    return [json.loads(each["body"]) for each in emulator.requests(ENDPOINT)]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_pictures_of_a_size(generate, emulator, wish, provider):
    answer = generate(provider=provider, model="sd", prompt=wish, n=2, size="128x64")

    assert sizes(answer) == [(128, 64)] * 2
    assert {each["prompt"] for each in asked(emulator)} == {wish}


def test_a_model_of_openais_own_is_painted_by_the_default_one(generate, emulator, wish):
    answer = generate(
        provider="openai",
        model="gpt-image-1",
        prompt=wish,
        providerOptions={"openai": {"quality": "high", "outputFormat": "webp"}},
    )

    assert answer["pictures"][0]["mediaType"] == "image/webp"
    assert [each["prompt"] for each in asked(emulator)] == [wish]


def test_the_contracts_own_fields_are_options_of_the_provider(generate, emulator, wish):
    generate(
        provider="compatible",
        model="sd",
        prompt=wish,
        providerOptions={"easel": {"seed": 7, "steps": 3, "negative_prompt": "a dog"}},
    )

    (each,) = asked(emulator)
    assert (each["seed"], each["steps"], each["negative_prompt"]) == (7, 3, "a dog")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_slow_model_is_waited_for_in_one_run(generate, emulator, wish, cold, provider):  # noqa: F811
    answer = generate(provider=provider, model="sdxl", prompt=wish)

    assert len(answer["pictures"]) == 1
    assert emulator.runs(ASYNC_ENDPOINT) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_says_what_is_wrong(generate, emulator, provider):
    told = generate(provider=provider, model="sd", prompt="a cat", size="100x100")

    assert told["status"] == 400
    assert "multiple of 8" in told["message"]
    assert emulator.requests() == []
