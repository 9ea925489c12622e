"""All backends: what a request sets is sent or refused by name, and nothing is dropped."""

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.backends.backend import OPTIONAL, WORDS, BadAnswer
from endpoint.core.backends.setting import NAMES, read
from endpoint.core.generation import GenerationRequest, InvalidField

PATH = "/opt/ml/model/loras/watercolour.safetensors"
SETTINGS = (
    *NAMES,
    {"name": "vllm-omni", "adapters": {"watercolour": PATH}},
    {"name": "openai-images", "accepts": ["seed", "steps", "guidance_scale", "format"]},
    {"name": "jumpstart", "accept_eula": True},
    {"name": "jumpstart", "accepts": ["steps", "width", "height"]},
)
DEFAULTS = {"steps": 4, "guidance_scale": 1.0, "width": 1_024, "height": 768}
PNG = b"\x89PNG\r\n\x1a\n...."

REQUESTS = st.builds(
    GenerationRequest,
    prompt=st.just("a red apple"),
    model=st.just("sd"),
    negative_prompt=st.sampled_from(["", "blurry"]),
    seed=st.none() | st.integers(0, 2**32 - 1),
    steps=st.none() | st.integers(1, 100),
    guidance_scale=st.none() | st.integers(0, 30),
    width=st.none() | st.sampled_from([64, 512, 1_536]),
    height=st.none() | st.sampled_from([64, 512, 1_536]),
    lora=st.sampled_from(["", "watercolour:0.5", "pixel", "pixel:1,watercolour:0.5"]),
    format=st.sampled_from(["png", "webp", "jpeg"]),
)


def sent_of(backend, request):
    """Return the body and the fields that it has, with the contract's names."""
    invocation = backend.invocation(request, "trace-1")
    body = json.loads(invocation.body)
    wire = {**body, **body.get("parameters", {})}
    fields = {name: wire[word] for name, word in WORDS.items() if word in wire}
    fields |= {name: wire[name] for name in OPTIONAL if name in wire}
    if "size" in wire:
        fields["width"], fields["height"] = map(int, wire["size"].split("x"))
    return invocation, wire, fields


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@given(request=REQUESTS)
def test_what_a_request_sets_is_sent_or_refused_by_name(setting, request):
    backend = read(setting)
    refusal = None
    try:
        backend.check(request)
        completed = backend.complete(request, DEFAULTS)
    except InvalidField as error:
        refusal = error
    if refusal is not None:
        assert refusal.field in {*OPTIONAL, "format"}
        assert getattr(request, refusal.field) not in (None, "")
        return
    invocation, wire, fields = sent_of(backend, completed)

    for name in OPTIONAL:
        value = getattr(request, name)
        if name == "lora" and value and isinstance(fields["lora"], dict):
            lora = fields["lora"]
            assert (value, lora["path"]) == (f"{lora['name']}:{lora['scale']:g}", PATH)
        elif value not in (None, ""):
            assert fields[name] == value
    assert wire.get("prompt", wire.get("inputs")) == "a red apple"
    kinds = {invocation.accept, wire.get("output_format"), wire.get("format")}
    assert {f"image/{request.format}", request.format, "application/json;jpeg"} & kinds or (
        backend.abilities.formats == (request.format,)
    )


@pytest.mark.parametrize("name", NAMES)
@given(request=REQUESTS)
def test_a_request_is_refused_for_a_field_that_it_has(name, request):
    backend = read(name)
    lacking = [field for field in backend.missing if getattr(request, field) not in (None, "")]
    if lacking:
        with pytest.raises(InvalidField) as refused:
            backend.check(request)

        assert refused.value.field == lacking[0]
        assert backend.title in refused.value.reason


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_request_passes_every_backend(name):
    backend = read(name)
    request = GenerationRequest(prompt="a cat", model="sd", format=backend.abilities.formats[0])

    backend.check(request)
    _, wire, fields = sent_of(backend, backend.complete(request, {"steps": 4}))

    takes_steps = "steps" in backend.abilities.fields and name != "easel"
    assert set(fields) - {"lora", "negative_prompt"} == ({"steps"} if takes_steps else set())
    assert wire.get("n", 1) == wire.get("num_images_per_prompt", 1) == 1


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_models_defaults_are_sent_to_a_container_that_does_not_know_them(setting):
    backend = read(setting)
    request = GenerationRequest(prompt="a cat", model="sd", format=backend.abilities.formats[0])
    _, _, fields = sent_of(backend, backend.complete(request, DEFAULTS))

    taken = {name: DEFAULTS[name] for name in DEFAULTS if name in backend.abilities.fields}
    sent = {name: value for name, value in fields.items() if name in DEFAULTS}
    assert sent == ({} if backend.name == "easel" else taken)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_default_of_one_side_alone_is_left_out(setting):
    backend = read(setting)
    request = GenerationRequest(prompt="a cat", model="sd", format=backend.abilities.formats[0])
    _, _, fields = sent_of(backend, backend.complete(request, {"steps": 4, "width": 1_024}))

    assert not fields.keys() & {"width", "height"}


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_setting_is_read_as_it_is_written(setting):
    assert read(read(setting).setting) == read(setting)


def test_no_setting_is_easel():
    assert read(None).name == "easel"
    assert read(None).missing == ()
    assert read(None).repeats


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("vllm", "'vllm' is none of easel, hugging-face, vllm-omni, jumpstart, openai-images"),
        (7, "7 is none of"),
        ({"accepts": []}, "None is none of"),
        ({"name": "easel", "accepts": ["seed"]}, "'accepts' is no option of easel"),
        ({"name": "openai-images", "accepts": ["lora"]}, "'lora' is none of negative_prompt"),
        ({"name": "jumpstart", "accepts": ["lora"]}, "'lora' is none of negative_prompt"),
        ({"name": "openai-images", "accepts": "seed"}, "accepts: must be a list"),
        ({"name": "openai-images", "accepts": [1]}, "accepts: must be a list"),
        ({"name": "jumpstart", "accept_eula": "yes"}, "accept_eula: must be true or false"),
        ({"name": "vllm-omni", "adapters": ["a"]}, "adapters: must be an object"),
        ({"name": "vllm-omni", "adapters": {"a b": PATH}}, "must be a name"),
        ({"name": "vllm-omni", "adapters": {"a": "/etc/passwd"}}, "the path of a must be below"),
        (
            {"name": "vllm-omni", "adapters": {"a": "/opt/ml/model/loras/../x"}},
            "the path of a must be below",
        ),
        ({"name": "vllm-omni", "adapters": {"a": 1}}, "the path of a must be below"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(setting, named):
    with pytest.raises(ValueError, match=r"^backend: ") as refused:
        read(setting)

    assert named in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
@given(body=st.binary(max_size=40) | st.sampled_from([b"[]", b"{}", b'{"data":[{}]}', b"null"]))
def test_an_answer_of_any_kind_is_a_picture_or_a_bad_answer(name, body):
    with suppress(BadAnswer):
        assert isinstance(read(name).picture(body, "application/json"), bytes)


@pytest.mark.parametrize("name", NAMES)
@given(
    text=st.text(max_size=60) | st.sampled_from(['{"error":', '{"detail": [1]}', '{"error":{}}'])
)
def test_an_error_of_any_kind_is_read(name, text):
    assert isinstance(read(name).report(400, text), dict)


def encoded(body=PNG):
    return base64.b64encode(body).decode()


@pytest.mark.parametrize(
    ("name", "body", "media_type"),
    [
        ("easel", PNG, "image/png"),
        ("hugging-face", PNG, "image/png"),
        ("hugging-face", json.dumps(encoded()).encode(), "application/json"),
        ("vllm-omni", PNG, "image/png"),
        ("vllm-omni", json.dumps({"data": [{"b64_json": encoded()}]}).encode(), "application/json"),
        ("jumpstart", json.dumps({"generated_images": [encoded()]}).encode(), "application/json"),
        ("openai-images", json.dumps({"data": [{"b64_json": encoded()}]}).encode(), ""),
    ],
)
def test_the_picture_is_taken_out_of_the_answer(name, body, media_type):
    assert read(name).picture(body, media_type) == PNG


@pytest.mark.parametrize("name", NAMES)
def test_memory_that_does_not_suffice_is_reported(name):
    text = json.dumps({"error": {"code": "out_of_memory", "message": "CUDA out of memory."}})

    assert read(name).report(500, text)["code"] == "out_of_memory"


@pytest.mark.parametrize("name", NAMES)
def test_attributes_keep_to_the_length_that_sagemaker_accepts(name):
    request = GenerationRequest(prompt="a cat", model="sd", steps=4)

    assert len(read(name).invocation(request, "t" * 1_024).attributes) <= 1_024
