"""The wire of vLLM-Omni, as its source has it."""

from __future__ import annotations

import base64
import io
import json
import zipfile

import pytest
from PIL import Image

from endpoint.emulator.container.imitations.vllm_omni import VllmOmni
from tests.endpoint.emulator.container.imitations.doubles import Images, post

KLEIN = {"SM_VLLM_MODEL": "black-forest-labs/FLUX.2-klein-4B"}
ROUTE = "route=/v1/images/generations"
# SageMaker's Runtime accepts no more characters of the header.
LONG_TRACE = "trace=" + "x" * 900


@pytest.fixture
def images():
    return Images()


@pytest.fixture
def server(images):
    return VllmOmni(images, KLEIN)


def ask(server, fields=None, attributes=ROUTE, **more):
    body = {"prompt": "a cat", **(fields or {})} if not isinstance(fields, bytes) else fields
    return post(server, body, attributes=attributes, **more)


def error(answer):
    return json.loads(answer.body)["error"]


def as_file(fields=None):
    return {"response_format": "file", **(fields or {})}


def test_by_default_the_answer_is_json_with_base64(server):
    answer = ask(server, {"size": "32x16"})
    content = json.loads(answer.body)
    image = Image.open(io.BytesIO(base64.b64decode(content["data"][0]["b64_json"])))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert (image.format, image.size) == ("PNG", (32, 16))
    assert (content["output_format"], content["size"]) == ("png", "32x16")
    assert set(content) == {"created", "data", "output_format", "size", "cot_output", "metrics"}


@pytest.mark.parametrize(
    ("output_format", "media_type", "kind"),
    [
        ("png", "image/png", "PNG"),
        ("jpg", "image/jpeg", "JPEG"),
        ("WEBP", "image/webp", "WEBP"),
        (None, "image/png", "PNG"),
        # No error: the server takes what it does not know for a wish for JPEG.
        ("avif", "image/jpeg", "JPEG"),
    ],
)
def test_a_file_is_the_image_itself_with_its_own_type(server, output_format, media_type, kind):
    answer = ask(server, as_file({"output_format": output_format}), accept="text/anything")
    assert answer.headers["content-type"] == media_type
    assert Image.open(io.BytesIO(answer.body)).format == kind


def test_a_png_is_not_compressed(server):
    answer = ask(server, as_file({"size": "256x256"}))
    assert len(answer.body) > 256 * 256 * 3


def test_several_files_are_an_archive(server):
    answer = ask(server, as_file({"n": 2}))
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.body)) as packed:
        assert packed.namelist() == ["image_0.png", "image_1.png"]


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        ("black-forest-labs/FLUX.2-klein-4B", 50),
        ("Tongyi-MAI/Z-Image-Turbo", 50),
        ("baidu/ERNIE-Image-Turbo", 50),
        ("stabilityai/stable-diffusion-xl-base-1.0", 50),
        ("black-forest-labs/FLUX.1-schnell", 28),
        ("stabilityai/stable-diffusion-3.5-medium", 28),
    ],
)
def test_without_steps_the_server_takes_many(images, model, steps):
    ask(VllmOmni(images, {"SM_VLLM_MODEL": model}))
    assert images.last.steps == steps


def test_all_fields_reach_the_pipeline(server, images):
    fields = {"num_inference_steps": 4, "guidance_scale": 1, "seed": 7, "negative_prompt": "a dog"}
    lora = {"name": "pixel", "path": "/opt/ml/model/loras/pixel.safetensors", "scale": 0.5}
    ask(server, {**fields, "size": "96x64", "lora": lora})
    request = images.last
    assert (request.prompt, request.negative_prompt) == ("a cat", "a dog")
    assert (request.steps, request.guidance_scale, request.seed) == (4, 1.0, 7)
    assert (request.width, request.height) == (96, 64)
    assert request.lora == ("/opt/ml/model/loras/pixel.safetensors", 0.5)


def test_without_a_seed_the_server_draws_one_and_keeps_it(server, images):
    answers = [ask(server) for _ in range(4)]
    assert len({request.seed for request in images.requests}) > 1
    assert b"seed" not in answers[0].body


def test_an_unknown_field_is_ignored(server, images):
    assert ask(server, {"steps": 4, "width": 32}).status == 200
    assert (images.last.steps, images.last.width) == (50, None)


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        (ROUTE, 200),
        (f"trace=abc {ROUTE}", 200),
        (f"trace=abc,{ROUTE},more=1", 200),
        (f"{ROUTE} {LONG_TRACE}", 200),
        ("route=/v1/images/generation", 404),
        (f"{ROUTE};trace=abc", 404),
        ("trace=abc", 400),
        ("", 400),
    ],
)
def test_the_route_is_in_the_custom_attributes(server, attributes, status):
    answer = ask(server, attributes=attributes)
    assert answer.status == status
    if status != 200:
        assert error(answer)["code"] == status


@pytest.mark.parametrize(
    ("environment", "served"),
    [
        (KLEIN, "black-forest-labs/FLUX.2-klein-4B"),
        ({"HF_MODEL_ID": "a/b"}, "a/b"),
        ({**KLEIN, "SM_VLLM_SERVED_MODEL_NAME": "klein"}, "klein"),
    ],
)
def test_a_model_other_than_the_servers_is_refused(images, environment, served):
    server = VllmOmni(images, environment)
    assert ask(server, {"model": served}).status == 200
    refused = ask(server, {"model": "flux2-klein"})
    assert refused.status == 400
    assert error(refused)["message"] == (
        f"Model mismatch: request specifies 'flux2-klein' but server is running '{served}'."
    )


def test_model_data_go_before_a_model_of_the_hub(images):
    server = VllmOmni(images, {"HF_MODEL_ID": "a/b"}, has_model_data=True)
    assert ask(server, {"model": "/opt/ml/model"}).status == 200


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"num_inference_steps": 201}, "num_inference_steps", "less than or equal to 200"),
        ({"num_inference_steps": 0}, "num_inference_steps", "greater than or equal to 1"),
        ({"guidance_scale": 20.5}, "guidance_scale", "less than or equal to 20"),
        ({"true_cfg_scale": -1}, "true_cfg_scale", "greater than or equal to 0"),
        ({"n": 11}, "n", "less than or equal to 10"),
        ({"seed": "many"}, "seed", "valid integer"),
        ({"size": "large"}, "size", "size must be in format"),
        ({"response_format": "url"}, "response_format", "Only 'b64_json' or 'file'"),
        ({"response_format": "gif"}, "response_format", "'b64_json', 'url' or 'file'"),
        ({"layers": 11}, "layers", "between 2 and 10"),
        ({"use_system_prompt": "mine"}, "use_system_prompt", "Must be one of"),
        ({"prompt": None}, "prompt", "valid string"),
        ({"lora": "pixel"}, "lora", "valid dictionary"),
    ],
)
def test_a_field_outside_its_limits_is_a_400_that_names_it(server, images, fields, field, words):
    answer = ask(server, fields)
    content = error(answer)
    assert answer.status == 400
    assert (content["type"], content["code"]) == ("Bad Request", 400)
    assert content["param"] == f"body.{field}"
    assert f"'loc': ('body', '{field}')" in content["message"]
    assert words in content["message"]
    assert images.requests == []


def test_an_older_server_names_the_field_in_the_message_alone(images):
    server = VllmOmni(images, KLEIN, names_fields=False)
    content = error(ask(server, {"n": 11}))
    assert content["param"] is None
    assert "'loc': ('body', 'n')" in content["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "1x2x3"}, "Invalid size format: '1x2x3'. Expected format"),
        ({"size": "axb"}, "Width and height must be integers."),
        ({"size": "0x16"}, "Width and height must be positive integers."),
        ({"size": "4096x4096"}, "exceeds the maximum allowed size of 1048576 pixels."),
        ({"lora": {"name": "pixel"}}, "Invalid lora object: both name and path are required."),
        ({"lora": {"name": "a", "path": "/b", "scale": "x"}}, "could not convert string to float"),
    ],
)
def test_what_the_route_itself_refuses_is_a_400_too(images, fields, message):
    server = VllmOmni(images, {**KLEIN, "SM_VLLM_MAX_GENERATED_IMAGE_SIZE": "1048576"})
    answer = ask(server, fields)
    assert answer.status == 400
    assert message in error(answer)["message"]


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"{", "application/json", "JSON decode error"),
        (b"[]", "application/json", "valid dictionary or object"),
        (b"{}", "application/json", "Field required"),
        (b"{}", "text/plain", "Only 'application/json' is allowed"),
        (b'{"prompt": "a cat"}', "application/json; charset=utf-8", ""),
    ],
)
def test_only_json_is_read(server, body, content_type, words):
    answer = ask(server, body, content_type=content_type)
    assert answer.status == (400 if words else 200)
    assert words in answer.body.decode()


def test_sizes_are_rounded_without_a_word(server, images):
    content = json.loads(ask(server, {"size": "100x50"}).body)
    assert (images.last.width, images.last.height) == (96, 48)
    assert content["size"] == "100x50"


def test_z_image_fails_at_such_sizes(images):
    answer = ask(VllmOmni(images, {"SM_VLLM_MODEL": "Tongyi-MAI/Z-Image"}), {"size": "96x50"})
    assert answer.status == 500
    assert error(answer)["message"].startswith("Height must be divisible by 16 (got 50).")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("a cat", "CUDA out of memory"), (" ", "`prompt` cannot be empty or whitespace-only.")],
)
def test_whatever_fails_in_the_engine_is_a_500(prompt, message):
    server = VllmOmni(Images(error=RuntimeError("CUDA out of memory")), KLEIN)
    answer = ask(server, {"prompt": prompt})
    content = error(answer)
    assert answer.status == 500
    assert content["message"] == message
    assert (content["type"], content["code"]) == ("InternalServerError", 500)
    assert set(content) == {"message", "type", "param", "code", "request_id", "error_stage_id"}


def test_an_adapter_of_weight_0_is_none(server, images):
    ask(server, {"lora": {"adapter": "a", "lora_path": "/b", "lora_scale": 0}})
    assert images.last.lora is None
