"""A server of OpenAI's images API."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from endpoint.emulator.container.imitations.openai_images import OpenAiImages
from tests.endpoint.emulator.container.imitations.doubles import Images, post

PROMPT = {"prompt": "a cat"}


@pytest.fixture
def images():
    return Images()


def error(answer, status=400):
    assert answer.status == status
    return json.loads(answer.body)["error"]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_answer_is_json_with_base64(images, kind):
    answer = post(OpenAiImages(images), {**PROMPT, "size": "32x16", "output_format": kind, "n": 2})
    data = json.loads(answer.body)["data"]
    files = [Image.open(io.BytesIO(base64.b64decode(item["b64_json"]))) for item in data]
    assert [(file.format, file.size) for file in files] == [(kind.upper(), (32, 16))] * 2


def test_own_fields_reach_the_pipeline(images):
    accepts = {"seed", "num_inference_steps", "guidance_scale", "negative_prompt"}
    server = OpenAiImages(images, accepts=accepts)
    fields = {"seed": 7, "num_inference_steps": 4, "guidance_scale": 2, "negative_prompt": "a dog"}
    assert post(server, {**PROMPT, **fields}).status == 200
    request = images.last
    assert (request.seed, request.steps, request.guidance_scale) == (7, 4, 2)
    assert request.negative_prompt == "a dog"


@pytest.mark.parametrize("name", ["seed", "num_inference_steps", "lora", "width"])
def test_a_field_that_the_server_does_not_have_is_refused(images, name):
    content = error(post(OpenAiImages(images), {**PROMPT, name: 1}))
    assert content["message"] == f"Unknown parameter: '{name}'."
    assert (content["param"], content["code"]) == (name, "unknown_parameter")
    assert images.requests == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"size": "large"}, "size"),
        ({"size": "0x64"}, "size"),
        ({"n": 11}, "n"),
        ({"response_format": "url"}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"seed": "many"}, "seed"),
        ({"model": "dall-e-2"}, "model"),
    ],
)
def test_an_invalid_field_is_named(images, fields, param):
    server = OpenAiImages(images, accepts={"seed"}, model="mine")
    content = error(post(server, {**PROMPT, **fields}))
    assert (content["type"], content["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("body", [b"{", b"[]"])
def test_only_an_object_is_read(images, body):
    assert error(post(OpenAiImages(images), body))["param"] is None


def test_a_failure_is_a_500():
    server = OpenAiImages(Images(error=RuntimeError("CUDA out of memory")))
    content = error(post(server, PROMPT), 500)
    assert (content["message"], content["type"]) == ("CUDA out of memory", "server_error")


def test_only_fields_that_are_imitated_can_be_accepted(images):
    with pytest.raises(ValueError, match="no such field: lora"):
        OpenAiImages(images, accepts={"lora"})
