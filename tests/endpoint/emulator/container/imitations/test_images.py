"""Images that a model server of Easel's own makes for an imitated container."""

from __future__ import annotations

import io
import json
import os

import pytest
from PIL import Image

from endpoint.emulator.container import easel_server
from endpoint.emulator.container.imitations.images import ImageRequest, ServerFailed, from_server
from endpoint.emulator.served_model import DEMO
from tests.conftest import ALL
from tests.endpoint.emulator.container.imitations.doubles import HOST, VLLM_OMNI
from tests.endpoint.emulator.doubles import create_endpoint
from tests.packages import ROOT


def file_of(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def server(container):
    container.behave = lambda _: (200, file_of(Image.new("RGBA", (16, 8), "teal")))
    return container


def test_a_request_is_sent_in_easels_own_words(server):
    lora = ("/opt/ml/model/loras/pixel.safetensors", 0.5)
    image = from_server(server.url)(ImageRequest("a cat", 4, "a dog", 64, 32, 2.5, 7, lora))
    ((headers, body),) = server.got
    assert headers["Accept"] == "image/png"
    assert json.loads(body) == {
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "width": 64,
        "height": 32,
        "steps": 4,
        "guidance_scale": 2.5,
        "seed": 7,
        "lora": "pixel:0.5",
    }
    assert (image.mode, image.size) == ("RGB", (16, 8))


def test_what_is_not_set_is_left_to_the_server(server):
    from_server(f"{server.url}/")(ImageRequest("a cat", 50))
    assert json.loads(server.got[0][1]) == {"prompt": "a cat", "steps": 50}


def test_an_error_of_the_server_is_one_of_the_pipeline(server):
    server.behave = lambda _: (503, b'{"error": {"code": "busy"}}')
    with pytest.raises(ServerFailed, match="busy"):
        from_server(server.url)(ImageRequest("a cat", 4))


def test_a_running_emulator_is_told_where_its_images_come_from(clients, runtime, switches, server):
    name = create_endpoint(clients, container=VLLM_OMNI, **HOST)
    switches.set_images_from(server.url)
    try:
        answer = runtime.invoke_endpoint(
            EndpointName=name,
            Body=json.dumps({"prompt": "a cat", "response_format": "file"}),
            ContentType="application/json",
            CustomAttributes="route=/v1/images/generations",
        )
    finally:
        switches.set_images_from(None)
    assert Image.open(io.BytesIO(answer["Body"].read())).size == (16, 8)
    assert json.loads(server.got[0][1])["steps"] == 50


@pytest.mark.slow
@pytest.mark.skipif(not ALL, reason="loads the demo model; run with ./setup.sh test --all")
def test_the_demo_models_image_is_the_same_through_another_wire(clients, runtime, switches):
    asked = {"seed": 7, "guidance_scale": 2.0}
    name = create_endpoint(clients, container=VLLM_OMNI, **HOST)
    own = create_endpoint(clients)
    lora = {"name": "pixel", "path": "/opt/ml/model/loras/pixel.safetensors", "scale": 0.5}
    with easel_server.serving(ROOT / "model_package/code", DEMO, dict(os.environ)) as server:
        switches.set_images_from(server.url)
        switches.set_container(own, server.url)
        try:
            body = {"prompt": "a red apple", "num_inference_steps": 4, "size": "128x128", **asked}
            through = runtime.invoke_endpoint(
                EndpointName=name,
                Body=json.dumps({**body, "response_format": "file", "lora": lora}),
                ContentType="application/json",
                CustomAttributes="trace=1 route=/v1/images/generations",
            )["Body"].read()
            more = {"width": 128, "height": 128, "lora": "pixel:0.5"}
            direct = runtime.invoke_endpoint(
                EndpointName=own,
                Body=json.dumps({"prompt": "a red apple", "steps": 4, **more, **asked}),
                ContentType="application/json",
                Accept="image/png",
            )["Body"].read()
        finally:
            switches.set_images_from(None)
            switches.set_container(own, None)
    first, second = (Image.open(io.BytesIO(file)).convert("RGB") for file in (through, direct))
    assert first.size == (128, 128)
    assert first.tobytes() == second.tobytes()
    assert len(first.getcolors(2**16)) > 100
