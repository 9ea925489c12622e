"""The Hugging Face toolkit without a script: the real one, and the emulator's imitations of it."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil

import pytest
import urllib3
from PIL import Image

from endpoint.emulator.container.imitations.hugging_face import HuggingFace
from endpoint.emulator.container.model_server import ModelServer
from tests.model_package.installed import SERVING_TOOLKIT, install, old_libraries, run

# What multi-model-server does around the handler, for each request.
SERVE = """
import base64, json, os, sys
from mms.context import Context, RequestProcessor
from mms.metrics.metrics_store import MetricsStore
from mms.service import PredictionException
from sagemaker_huggingface_inference_toolkit.handler_service import HuggingFaceHandlerService

context = Context("model", os.environ["MODEL"], None, 1, None, "1.1.11")
service = HuggingFaceHandlerService()
service.initialize(context)
for accept, content_type, body in json.loads(sys.argv[1]):
    headers = {"Content-Type": content_type, "Accept": accept}
    context.request_processor = [RequestProcessor(headers)]
    context.metrics = MetricsStore({0: "id"}, "model")
    try:
        (response,) = service.handle([{"body": bytearray(body.encode())}], context)
        content = response.encode() if isinstance(response, str) else response
        type_ = context.get_response_content_type(0)
        print(json.dumps([200, type_, base64.b64encode(content).decode()]))
    except PredictionException as error:
        print(json.dumps([400, None, error.message]))
"""
JSON, PNG = "application/json", "image/png"
SMALL = {"width": 64, "height": 64, "num_inference_steps": 1}


def asked(accept=PNG, content_type=JSON, **parameters):
    content = {"inputs": "a cat", "parameters": {**SMALL, **parameters}}
    return accept, content_type, json.dumps(content)


REQUESTS = {
    "png": asked(),
    "jpeg": asked("image/jpeg"),
    "webp": asked("image/webp"),
    "x-image": asked("image/x-image"),
    "json": asked(JSON),
    "any": asked("*/*"),
    "all parameters": asked(guidance_scale=2.0, negative_prompt="a dog", eta=0.0),
    "several": asked(num_images_per_prompt=4),
    "seed": asked(seed=7),
    "generator": asked(generator=7),
    "lora": asked(lora="pixel"),
    "odd width": asked(width=70),
    "odd height": asked(height=70, width=72),
    "avif": asked("image/avif"),
    "any image": asked("image/*"),
    "two types": asked("image/png,image/*"),
    "text": asked(content_type="text/plain"),
    "charset": asked(content_type="application/json; charset=utf-8"),
    "no inputs": (PNG, JSON, json.dumps({"prompt": "a cat"})),
    "no JSON": (PNG, JSON, "{"),
}

pytestmark = [pytest.mark.slow, pytest.mark.own_environment]


@pytest.fixture(scope="module")
def model(stand_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("default") / "model"
    shutil.copytree(stand_in(), folder)
    return folder


@pytest.fixture(scope="module")
def real(model):
    """The outcomes of the real handler, by the name of the request."""
    libraries = [install("serving-toolkit", SERVING_TOOLKIT), *old_libraries("4.51.3")]
    finished = run(
        ["-W", "ignore", "-c", SERVE, json.dumps(list(REQUESTS.values()))],
        libraries,
        MODEL=str(model),
        SAGEMAKER_BASE_DIR=str(model.parent),
        HF_TASK="text-to-image",
    )
    assert finished.returncode == 0, finished.stdout[-4_000:] + finished.stderr[-4_000:]
    lines = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("[")]
    return {
        name: outcome(status, type_, base64.b64decode(content) if status == 200 else content)
        for name, (status, type_, content) in zip(REQUESTS, lines, strict=True)
    }


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    """The outcomes of the emulator's model server, which loads the model with diffusers."""
    code = tmp_path_factory.mktemp("no-code")
    variables = {**os.environ, "HF_TASK": "text-to-image"}
    with ModelServer(code, model, variables).serve() as server:
        return {name: _post(server.url, *request) for name, request in REQUESTS.items()}


def _post(url, accept, content_type, body):
    headers = {"Accept": accept, "Content-Type": content_type}
    answer = urllib3.request(
        "POST",
        f"{url}/invocations",
        body=body.encode(),
        headers=headers,
        retries=False,
        timeout=120,
    )
    if answer.status == 200:
        return outcome(200, answer.headers["Content-Type"], answer.data)
    return outcome(answer.status, None, answer.json()["message"])


def outcome(status, type_, content):
    """Return what has to be the same: of a picture its format and its size."""
    if status != 200:
        return status, content
    if type_ == JSON:
        content = base64.b64decode(json.loads(content))
    image = Image.open(io.BytesIO(content))
    return status, type_, image.format, image.size


@pytest.mark.parametrize("name", REQUESTS)
def test_the_imitated_container_answers_as_the_toolkit(real, name):
    def generate(request):
        return Image.new("RGB", (request.width, request.height))

    accept, content_type, body = REQUESTS[name]
    headers = {"Accept": accept, "Content-Type": content_type}
    answer = HuggingFace(generate).answer(headers, body.encode())
    if answer.status == 200:
        result = outcome(200, answer.headers["content-type"], answer.body)
    else:
        result = outcome(answer.status, None, json.loads(answer.body)["message"])
    assert result == real[name]


@pytest.mark.parametrize("name", REQUESTS)
def test_the_model_server_with_diffusers_answers_as_the_toolkit(real, served, name):
    assert served[name] == real[name]
