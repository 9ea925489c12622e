"""OpenAI's own library for Node.js, unmodified, with nothing changed but the base URL."""

import base64
import io

import pytest
from PIL import Image

from tests.end_to_end.account import ASYNC_ENDPOINT
from tests.end_to_end.calls import bodies


@pytest.fixture
def generate(node):
    return lambda url, **body: node("generate.js", url, body)


def test_the_library_for_node_gets_its_picture(gateway_url, generate, emulator, prompt):
    answer = generate(f"{gateway_url}/v1", prompt=prompt)

    content = base64.b64decode(answer["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(content)).format == "PNG"
    assert [request["prompt"] for request in bodies(emulator)] == [prompt]


def test_the_library_for_node_waits_for_a_slow_model(
    impatient_url, generate, emulator, prompt, cold
):
    answer = generate(f"{impatient_url}/v1", prompt=prompt, model="sdxl")

    content = base64.b64decode(answer["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(content)).format == "PNG"
    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_the_library_for_node_understands_errors(gateway_url, generate):
    error = generate(f"{gateway_url}/v1", prompt="a cat", n=9)

    assert error["status"] == 400
    assert error["error"]["param"] == "n"
