"""The imitation of vLLM-Omni and the images route of the real package answer the same."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from endpoint.emulator.container.imitations.vllm_omni import ImagesRequest, VllmOmni
from tests.endpoint.emulator.container.imitations.doubles import Images, post
from tests.model_package.installed import install, run

pytestmark = [pytest.mark.slow, pytest.mark.own_environment]

# Of its requirements, those of the route that the tests' own environment lacks.
VLLM_OMNI = ["vllm-omni==0.26.0"]
ROUTE_LIBRARIES = ["fastapi==0.165.0", "opentelemetry-api==1.45.2", "python-multipart==0.0.34"]
JSON = "application/json"
MODEL = "black-forest-labs/FLUX.2-klein-4B"
LORA = {"name": "pixel", "path": "/opt/ml/model/loras/pixel.safetensors"}

FIELDS = [
    {},
    {"size": "32x16", "seed": 7},
    {"size": "96x64", "num_inference_steps": 4, "guidance_scale": 1, "seed": 2**32 - 1},
    {"negative_prompt": "a dog", "seed": "12", "n": 2, "model": MODEL},
    {"lora": LORA},
    {"lora": {**LORA, "scale": 0.5}},
    {"lora": {"adapter": "a", "lora_path": "/b", "lora_scale": "2"}},
    *({"response_format": "file", "output_format": name} for name in ("png", "jpg", "webp", "gif")),
    {"response_format": "file", "size": "256x256"},
    {"response_format": "file", "n": 2},
    {"unknown": 1, "steps": 4, "width": 32},
    {"prompt": None},
    {"prompt": 1},
    {"n": 0},
    {"n": 11},
    {"n": "two"},
    {"n": True},
    {"num_inference_steps": 0},
    {"num_inference_steps": 201},
    {"num_inference_steps": 4.5},
    {"guidance_scale": 20.1},
    {"guidance_scale": "much"},
    {"true_cfg_scale": -0.1},
    {"size": "large"},
    {"size": 64},
    {"size": "1x2x3"},
    {"size": "axb"},
    {"size": "0x16"},
    {"size": "-16x16"},
    {"size": "2048x1024"},
    {"response_format": "url"},
    {"response_format": "gif"},
    {"layers": 1},
    {"layers": 11},
    {"use_system_prompt": "mine"},
    {"use_system_prompt": "dynamic"},
    {"seed": 1.5},
    {"seed": "many"},
    {"lora": "pixel"},
    {"lora": {"name": "pixel"}},
    {"lora": {"path": "/a"}},
    {"lora": {**LORA, "scale": "x"}},
    {"model": "flux2-klein"},
    {"extra_params": []},
    {"n": 11, "guidance_scale": 30, "size": "large"},
]
BODIES = [
    *((json.dumps({"prompt": "a cat", **fields}), JSON) for fields in FIELDS),
    ("{", JSON),
    ("[]", JSON),
    ("{}", JSON),
    ('"a cat"', JSON),
    ('{"prompt": "a cat"}', "application/json; charset=utf-8"),
    ('{"prompt": "a cat"}', "APPLICATION/JSON"),
    # Any other type is refused by vLLM, which is not installed.
]


@pytest.fixture(scope="module")
def package():
    return install("vllm-omni", VLLM_OMNI)


@pytest.fixture(scope="module")
def real(package):
    """The answers of the package, in the order of BODIES."""
    script = str(Path(__file__).with_name("real_vllm_omni.py"))
    folders = [package, install("vllm-omni-route", ROUTE_LIBRARIES)]
    finished = run(["-W", "ignore", script, str(package), json.dumps(BODIES)], folders)
    assert finished.returncode == 0, finished.stderr[-4_000:]
    return [json.loads(line) for line in finished.stdout.splitlines()]


def imitated(text, content_type):
    """Return the imitation's answer in the form of the program's, and its call of the engine."""
    images = Images()
    server = VllmOmni(
        images, {"SM_VLLM_MODEL": MODEL, "SM_VLLM_MAX_GENERATED_IMAGE_SIZE": "1048576"}
    )
    route = "route=/v1/images/generations"
    answer = post(server, text.encode(), attributes=route, content_type=content_type)
    return answer, images.requests


@pytest.mark.parametrize("number", range(len(BODIES)), ids=[text for text, _ in BODIES])
def test_a_request_is_answered_as_by_the_package(real, number):
    expected = real[number]
    answer, requests = imitated(*BODIES[number])
    assert (answer.status, answer.headers["content-type"]) == (expected["status"], expected["type"])
    if answer.status != 200:
        _same_error(json.loads(answer.body)["error"], expected["content"])
    elif "file" in expected:
        assert _described(answer.body) == _described(base64.b64decode(expected["file"]))
    elif "content" in expected:
        content = json.loads(answer.body)
        for name in ("created", "data"):
            assert name in content
        assert {**content, "created": 0, "data": 0} == {
            **expected["content"],
            "created": 0,
            "data": 0,
        }
        assert [_described(base64.b64decode(item["b64_json"])) for item in content["data"]] == [
            _described(base64.b64decode(item["b64_json"])) for item in expected["content"]["data"]
        ]
    if requests:
        _same_call(requests[-1], expected["call"], json.loads(BODIES[number][0]))


def _same_error(error, expected):
    if "detail" in expected:
        assert error["message"] == expected["detail"]
        return
    lines = [line.strip() for line in error["message"].splitlines()[1:]]
    assert lines == expected["errors"]


def _same_call(request, call, fields):
    names = ("prompt", "negative_prompt", "width", "height", "guidance_scale")
    assert {name: getattr(request, name) for name in names} == {name: call[name] for name in names}
    assert request.steps == (call["num_inference_steps"] or 50)
    assert (list(request.lora) if request.lora else None) == call["lora"]
    if "seed" in fields:
        assert request.seed == call["seed"]


def _described(file):
    image = Image.open(io.BytesIO(file))
    return image.format, image.mode, image.size, image.format == "PNG" and len(file) // 100


def test_the_fields_are_those_of_the_package(package):
    source = (package / "vllm_omni/entrypoints/openai/protocol/images.py").read_text()
    body = source.partition("class ImageGenerationRequest")[2].partition("\nclass ")[0]
    names = re.findall(r"^    (\w+): ", body, re.MULTILINE)
    assert sorted(ImagesRequest.model_fields) == sorted(names)


@pytest.mark.parametrize(
    ("model", "file"),
    [
        (MODEL, "flux2_klein/pipeline_flux2_klein.py"),
        ("Tongyi-MAI/Z-Image-Turbo", "z_image/pipeline_z_image.py"),
        ("baidu/ERNIE-Image-Turbo", "ernie_image/pipeline_ernie_image.py"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl/pipeline_sdxl.py"),
        ("Qwen/Qwen-Image", "qwen_image/pipeline_qwen_image.py"),
        ("black-forest-labs/FLUX.1-dev", "flux/pipeline_flux.py"),
        ("stabilityai/stable-diffusion-3.5-large", "sd3/pipeline_sd3.py"),
        ("krea/Krea-2-Turbo", "krea2/pipeline_krea2.py"),
    ],
)
def test_the_default_steps_are_those_of_the_package(package, model, file):
    source = (package / "vllm_omni/diffusion/models" / file).read_text()
    patterns = (
        r"num_inference_steps or (\d+)",
        r"num_inference_steps: int = (\d+)",
        r"(\d+) if req.sampling_params.num_inference_steps is None",
    )
    found = {int(number) for pattern in patterns for number in re.findall(pattern, source)}
    images = Images()
    post(
        VllmOmni(images, {"SM_VLLM_MODEL": model}),
        {"prompt": "a cat"},
        attributes="route=/v1/images/generations",
    )
    assert found == {images.last.steps}
