"""The traps of Hugging Face's handler and of JumpStart, both behind a serving toolkit."""

import json

import pytest

from endpoint.core.backends.backend import BadAnswer
from endpoint.core.backends.setting import read
from endpoint.core.generation import GenerationRequest, InvalidField

HUGGING_FACE = read("hugging-face")
JUMPSTART = read("jumpstart")
FULL = {
    "negative_prompt": "blurry",
    "steps": 20,
    "guidance_scale": 7.5,
    "width": 512,
    "height": 768,
}


def request(**fields):
    return GenerationRequest(prompt="a cat", model="sd", **fields)


def test_hugging_face_gets_arguments_of_the_pipeline():
    invocation = HUGGING_FACE.invocation(request(**FULL, format="jpeg"), "trace-1")

    assert json.loads(invocation.body) == {
        "inputs": "a cat",
        "parameters": {
            "negative_prompt": "blurry",
            "num_inference_steps": 20,
            "guidance_scale": 7.5,
            "width": 512,
            "height": 768,
        },
    }
    assert (invocation.accept, invocation.attributes) == ("image/jpeg", "trace-1")


def test_hugging_face_repeats_no_picture():
    assert not HUGGING_FACE.repeats
    with pytest.raises(InvalidField) as refused:
        HUGGING_FACE.check(request(seed=7))

    assert str(refused.value) == (
        "seed: the model sd cannot repeat a picture: its backend, Hugging Face's default handler,"
        " takes no seed"
    )


def test_a_model_of_jumpstart_without_a_seed_gets_what_it_takes_alone():
    backend = read({"name": "jumpstart", "accepts": ["steps", "width", "height"]})
    request_ = backend.complete(request(format="jpeg"), {"steps": 4, "guidance_scale": 1.0})

    assert not backend.repeats
    assert json.loads(backend.invocation(request_, "").body) == {
        "prompt": "a cat",
        "num_images_per_prompt": 1,
        "num_inference_steps": 4,
    }
    for fields in ({"seed": 7}, {"guidance_scale": 2.0}):
        with pytest.raises(InvalidField, match=next(iter(fields))):
            backend.check(request(**fields))


# sagemaker-huggingface-inference-toolkit raises PredictionException(str(e), 400) for everything.
def toolkit_error(message):
    return json.dumps({"code": 400, "type": "InternalServerException", "message": message})


@pytest.mark.parametrize("backend", [HUGGING_FACE, JUMPSTART])
@pytest.mark.parametrize(
    ("message", "report"),
    [
        ("Expected all tensors to be on the same device", {}),
        ("__call__() got an unexpected keyword argument 'generator'", {}),
        (
            "__call__() got an unexpected keyword argument 'negative_prompt'",
            {"field": "negative_prompt", "code": "invalid_request"},
        ),
        (
            "`height` and `width` have to be divisible by 16 but are 520 and 512.",
            {"field": "width", "code": "invalid_request"},
        ),
        (
            "Input payload contains an invalid key seed. Valid keys are ['prompt']",
            {"field": "seed", "code": "invalid_request"},
        ),
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", {"code": "out_of_memory"}),
    ],
)
def test_a_400_of_a_toolkit_is_the_callers_only_if_it_says_so(backend, message, report):
    answer = backend.report(400, toolkit_error(message))

    assert {name: answer.get(name) for name in report} == report
    assert bool(answer) is bool(report)


def test_jumpstart_gets_flat_json_and_answers_with_jpeg():
    invocation = JUMPSTART.invocation(request(**FULL, seed=7, format="jpeg"), "trace-1")

    assert json.loads(invocation.body) == {
        "prompt": "a cat",
        "num_images_per_prompt": 1,
        "negative_prompt": "blurry",
        "seed": 7,
        "num_inference_steps": 20,
        "guidance_scale": 7.5,
        "width": 512,
        "height": 768,
    }
    assert (invocation.accept, invocation.attributes) == ("application/json;jpeg", "trace-1")
    assert JUMPSTART.abilities.formats == ("jpeg",)
    assert not JUMPSTART.abilities.raw


def test_a_licence_is_accepted_with_exactly_the_text_that_aws_documents():
    gated = read({"name": "jumpstart", "accept_eula": True})

    assert gated.invocation(request(), "trace-1").attributes == "accept_eula=true"


def test_pixels_instead_of_files_are_no_picture():
    answer = json.dumps({"generated_images": [[[[0, 0, 0]]]], "prompt": "a cat"}).encode()

    with pytest.raises(BadAnswer, match="lists of pixels"):
        JUMPSTART.picture(answer, "application/json")


@pytest.mark.parametrize(
    "answer",
    [b"oops", b"{}", b'{"generated_images": []}', b'{"generated_images": ["%%"]}', b"[1]"],
)
def test_an_answer_without_a_picture_is_said(answer):
    with pytest.raises(BadAnswer):
        JUMPSTART.picture(answer, "application/json")
