"""The Hugging Face toolkit without a script."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from endpoint.emulator.container.imitations.hugging_face import HuggingFace
from tests.endpoint.emulator.container.imitations.doubles import Images, post

PROMPT = {"inputs": "a cat"}


@pytest.fixture
def images():
    return Images()


@pytest.fixture
def container(images):
    return HuggingFace(images)


def ask(container, parameters=None, **more):
    body = {**PROMPT, "parameters": parameters} if parameters is not None else PROMPT
    return post(container, body, **more)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_answer_is_the_file_that_accept_names(container, kind):
    answer = ask(container, accept=f"image/{kind}")
    assert (answer.status, answer.headers["content-type"]) == (200, f"image/{kind}")
    assert Image.open(io.BytesIO(answer.body)).format == kind.upper()


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
def test_json_is_a_string_of_base64(container, accept):
    answer = ask(container, accept=accept)
    assert answer.headers["content-type"] == "application/json"
    file = base64.b64decode(json.loads(answer.body))
    assert Image.open(io.BytesIO(file)).format == "PNG"


def test_parameters_are_the_pipelines_arguments(container, images):
    parameters = {"num_inference_steps": 4, "guidance_scale": 2.0, "negative_prompt": "a dog"}
    ask(container, {**parameters, "width": 96, "height": 64})
    request = images.last
    assert (request.prompt, request.negative_prompt) == ("a cat", "a dog")
    assert (request.steps, request.guidance_scale, request.width, request.height) == (4, 2, 96, 64)


def test_by_default_there_are_50_steps_and_no_seed(container, images):
    ask(container)
    assert (images.last.steps, images.last.seed) == (50, None)


def test_one_image_is_made_whatever_the_number(container, images):
    assert ask(container, {"num_images_per_prompt": 4}).status == 200
    assert len(images.requests) == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"generator": 7}, "'int' object has no attribute 'device'"),
        ({"width": 70}, "`height` and `width` have to be divisible by 8 but are None and 70."),
        ({"guidance_rescale": 0.7}, "the imitation has no guidance_rescale of 0.7"),
    ],
)
def test_whatever_the_pipeline_raises_is_a_400(container, images, parameters, message):
    answer = ask(container, parameters)
    content = json.loads(answer.body)
    assert answer.status == content["code"] == 400
    assert content["type"] == "InternalServerException"
    assert message in content["message"]
    assert images.requests == []


def test_an_unknown_argument_is_ignored_by_older_pipelines_and_refused_by_newer_ones(images):
    parameters = {"seed": 7, "lora": "pixel:1"}
    assert ask(HuggingFace(images), parameters).status == 200
    assert (images.last.seed, images.last.lora) == (None, None)
    refused = ask(HuggingFace(images, ignores_unknown=False), parameters)
    assert refused.status == 400
    message = json.loads(refused.body)["message"]
    assert message == "ZImagePipeline.__call__() got an unexpected keyword argument 'seed'"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"accept": "image/*"}, "Content type image/* is not supported by this framework."),
        ({"accept": "image/avif"}, "Content type image/avif is not supported"),
        ({"content_type": "text/plain"}, "Content type text/plain is not supported"),
    ],
)
def test_an_unknown_type_is_a_400(container, more, message):
    answer = ask(container, **more)
    assert answer.status == 400
    assert message in json.loads(answer.body)["message"]


def test_a_prompt_outside_inputs_is_a_400(container):
    answer = post(container, {"prompt": "a cat"})
    assert answer.status == 400
    assert "`prompt` has to be of type `str` or `list`" in json.loads(answer.body)["message"]


def test_a_lack_of_memory_looks_like_the_callers_fault():
    answer = ask(HuggingFace(Images(error=RuntimeError("CUDA out of memory."))))
    content = json.loads(answer.body)
    assert (answer.status, content["message"]) == (400, "CUDA out of memory.")
