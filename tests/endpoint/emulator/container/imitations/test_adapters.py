"""The adapters and the imitations, which know nothing of each other, agree about every request."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from endpoint.core.backends.backend import OPTIONAL
from endpoint.core.backends.setting import read
from endpoint.core.generation import GenerationRequest, InvalidField
from endpoint.emulator.container.imitations.hugging_face import HuggingFace
from endpoint.emulator.container.imitations.jumpstart import JumpStart
from endpoint.emulator.container.imitations.openai_images import OpenAiImages
from endpoint.emulator.container.imitations.vllm_omni import VllmOmni
from tests.endpoint.emulator.container.imitations.doubles import (
    ADAPTERS,
    ATTRIBUTES,
    JSON,
    KLEIN,
    SERVER_ACCEPTS,
    SETTINGS,
)

DEFAULTS = {"steps": 4, "guidance_scale": 1.0, "width": 1_024, "height": 768}
Z_IMAGE = {"SM_VLLM_MODEL": "Tongyi-MAI/Z-Image-Turbo"}


class Calls:
    """Remembers what it is called with, and makes a small image of any size."""

    def __init__(self):
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        return Image.new("RGB", (8, 8))


CALLS = Calls()
# Newer pipelines refuse what older ones ignore.
CONTAINERS = {
    "vllm-omni": [VllmOmni(CALLS, KLEIN), VllmOmni(CALLS, Z_IMAGE)],
    "hugging-face": [HuggingFace(CALLS, ignores_unknown=False)],
    "jumpstart": [JumpStart(CALLS)],
    "openai-images": [OpenAiImages(CALLS, accepts=SERVER_ACCEPTS)],
}
SIDES = st.none() | st.integers(8, 192).map(lambda n: 8 * n)
REQUESTS = st.builds(
    GenerationRequest,
    prompt=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
    model=st.just("m"),
    negative_prompt=st.sampled_from(["", "blurry, 'quoted' \"text\"", "猫"]),
    seed=st.none() | st.integers(0, 2**32 - 1),
    steps=st.none() | st.integers(1, 100),
    guidance_scale=st.none() | st.floats(0, 30).map(lambda value: round(value, 2)),
    width=SIDES,
    height=SIDES,
    lora=st.sampled_from(["", "pixel:0.5", "pixel", "other:1", "pixel:1,other:1"]),
    format=st.sampled_from([None, "png", "webp", "jpeg"]),
)


@pytest.mark.parametrize("name", CONTAINERS)
@given(request=REQUESTS)
def test_what_an_adapter_accepts_a_container_carries_out_in_full(name, request):
    backend = read(SETTINGS[name])
    refusal = None
    try:
        backend.check(request)
        completed = backend.complete(request, DEFAULTS)
    except InvalidField as error:
        refusal = error
    if refusal is not None:
        assert getattr(request, refusal.field) not in (None, "")
        return
    made = backend.invocation(completed, "trace-1")
    headers = {"Content-Type": JSON, "Accept": made.accept, ATTRIBUTES: made.attributes}
    for container in CONTAINERS[name]:
        CALLS.requests.clear()
        answer = container.answer(headers, made.body)
        assert answer.status == 200, answer.body
        assert backend.picture(answer.body, answer.headers["content-type"])
        (call,) = CALLS.requests
        got = dataclasses.asdict(call)
        lora, weight = got.pop("lora") or (None, None)
        named = {path: adapter for adapter, path in ADAPTERS.items()}
        got["lora"] = f"{named[lora]}:{weight:g}" if lora else None
        expected = {"prompt": request.prompt} | {
            field: value
            for field in OPTIONAL
            if (value := getattr(request, field)) not in (None, "") and field != "lora"
        }
        assert {field: got[field] for field in expected} == expected
        assert bool(got["lora"]) == bool(request.lora)
