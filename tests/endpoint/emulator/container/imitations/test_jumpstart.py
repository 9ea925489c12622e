"""JumpStart's Stable Diffusion, as its script has it."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from endpoint.emulator.container.imitations.jumpstart import JumpStart
from tests.endpoint.emulator.container.imitations.doubles import Images, post

AS_JPEG = "application/json;jpeg"


@pytest.fixture
def images():
    return Images()


@pytest.fixture
def container(images):
    return JumpStart(images)


def ask(container, fields=None, accept=AS_JPEG, **more):
    body = fields if isinstance(fields, bytes) else {"prompt": "a cat", **(fields or {})}
    return post(container, body, accept=accept, **more)


def message(answer):
    content = json.loads(answer.body)
    assert answer.status == content["code"] == 400
    return content["message"]


def test_images_are_jpegs_in_base64_if_accept_says_so(container):
    answer = ask(container, {"num_images_per_prompt": 2, "width": 64, "height": 64})
    content = json.loads(answer.body)
    files = [base64.b64decode(text) for text in content["generated_images"]]
    assert (answer.status, answer.headers["content-type"]) == (200, AS_JPEG)
    assert [Image.open(io.BytesIO(file)).format for file in files] == ["JPEG", "JPEG"]
    assert content["prompt"] == "a cat"


def test_otherwise_they_are_rows_of_pixels(container):
    answer = ask(container, {"width": 16, "height": 8, "seed": 3}, accept="application/json")
    (rows,) = json.loads(answer.body)["generated_images"]
    assert (len(rows), len(rows[0]), rows[0][0]) == (8, 16, [3, 50, 7])


def test_text_alone_is_a_prompt(container):
    answer = post(container, b"a cat", accept=AS_JPEG, content_type="application/x-text")
    content = json.loads(answer.body)
    assert content["prompt"] == "a cat"
    assert base64.b64decode(content["generated_image"]).startswith(b"\xff\xd8")


def test_the_defaults_are_512_pixels_and_50_steps(container, images):
    ask(container)
    request = images.last
    assert (request.width, request.height, request.steps) == (512, 512, 50)


def test_all_fields_reach_the_pipeline(container, images):
    numbers = {"num_inference_steps": 4, "guidance_scale": 2, "seed": 9}
    ask(container, {**numbers, "negative_prompt": "a dog", "width": 64, "height": 32})
    request = images.last
    assert (request.steps, request.guidance_scale, request.seed) == (4, 2, 9)
    assert (request.negative_prompt, request.width, request.height) == ("a dog", 64, 32)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 4}, "Input payload contains an invalid key steps. Valid keys are ['prompt', "),
        ({"width": 70}, "width must be divisible by 8, got 70."),
        ({"seed": 7.0}, "seed must be an integer, got 7.0."),
        ({"num_inference_steps": True}, "num_inference_steps must be an integer, got True."),
        ({"guidance_scale": "2"}, "guidance_scale must be an int or float, got 2."),
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1, got 0."),
        ({"prompt": 1}, "prompt must be a string or a list of string. Got 1."),
        (b"{}", "Input payload must contain 'prompt' key."),
        (b"{", "Expecting property name"),
    ],
)
def test_what_the_script_refuses_is_a_400(container, images, fields, words):
    assert words in message(ask(container, fields))
    assert images.requests == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=utf-8"])
def test_another_content_type_is_refused(container, content_type):
    assert "unsupported content type" in message(ask(container, content_type=content_type))


def test_an_image_type_is_refused_after_the_work(container, images):
    assert "image/png is not supported" in message(ask(container, accept="image/png"))
    assert len(images.requests) == 1


def test_a_gated_model_asks_for_its_licence(images):
    container = JumpStart(images, gated=True)
    assert "Need to pass custom_attributes='accept_eula=true'" in message(ask(container))
    assert "accept_eula=true" in message(ask(container, attributes="trace=1 accept_eula=true"))
    assert ask(container, attributes="accept_eula=true").status == 200
