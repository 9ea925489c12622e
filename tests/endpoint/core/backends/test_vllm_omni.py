"""The traps of vLLM-Omni's wire."""

import json
import re

import pytest

from endpoint.core.backends.setting import read
from endpoint.core.generation import GenerationRequest, InvalidField

BACKEND = read("vllm-omni")
PATH = "/opt/ml/model/loras/styles/watercolour.safetensors"
ADAPTED = read({"name": "vllm-omni", "adapters": {"watercolour": PATH}})


def request(**fields):
    return GenerationRequest(prompt="a cat", **{"model": "klein", "steps": 4, **fields})


def body(asked, backend=BACKEND):
    return json.loads(backend.invocation(asked, "trace-1").body)


def test_the_steps_and_the_guidance_of_the_model_are_always_sent():
    completed = BACKEND.complete(request(steps=None), {"steps": 4, "guidance_scale": 1.0})

    # The server's defaults would be 50 steps, and for ERNIE-Image a guidance scale of 4.
    assert body(completed)["num_inference_steps"] == 4
    assert body(completed)["guidance_scale"] == 1.0


def test_a_request_without_steps_is_not_sent_without_a_default():
    with pytest.raises(InvalidField, match="steps: is needed") as refused:
        BACKEND.complete(request(steps=None), {})
    assert refused.value.field == "steps"


def test_the_name_of_the_model_is_left_out():
    assert "model" not in body(request())


def test_the_picture_itself_is_asked_for():
    invocation = BACKEND.invocation(request(format="webp"), "trace-1")
    content = json.loads(invocation.body)

    assert (content["response_format"], content["output_format"]) == ("file", "webp")
    assert invocation.accept == "image/webp"
    assert BACKEND.abilities.raw
    assert not BACKEND.abilities.compressed


def test_the_route_is_found_before_anything_in_the_trace():
    attributes = BACKEND.invocation(request(), "id=1;route=/v1/models").attributes

    # The pattern of omni_sagemaker_serve.py.
    found = re.search(r"route=(/[^\s,]+)", attributes)
    assert found[1] == "/v1/images/generations"
    assert attributes.endswith("id=1;route=/v1/models")


def test_a_size_has_both_sides_or_none():
    assert "size" not in body(request())
    assert body(request(width=512, height=768))["size"] == "512x768"
    completed = BACKEND.complete(request(width=512), {"height": 1_024})
    assert body(completed)["size"] == "512x1024"
    with pytest.raises(InvalidField, match="height: is needed"):
        BACKEND.complete(request(width=512), {})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"width": 520}, "width: must be a multiple of 16 from 64 to 1,536 for the model klein"),
        ({"guidance_scale": 20.5}, "guidance_scale: must be a number from 0 to 20"),
        ({"lora": "watercolour,pixel"}, "lora: must be at most 1 of name:weight"),
        ({"lora": "pixel"}, "lora: pixel is not an adapter of the model klein"),
    ],
)
def test_its_own_limits_are_kept(fields, named):
    with pytest.raises(InvalidField, match=named):
        ADAPTED.check(request(**fields))


def test_an_adapter_is_sent_with_a_path_of_the_container():
    sent = body(request(lora="watercolour:0.8"), ADAPTED)["lora"]

    assert sent == {"name": "watercolour", "path": PATH, "scale": 0.8}


def test_without_adapters_no_adapter_is_taken():
    with pytest.raises(InvalidField, match="lora: the model klein has no LoRA adapters"):
        BACKEND.check(request(lora="watercolour"))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no file /opt/ml/model/loras/x.safetensors.", "no file …."),
        ("'/opt/ml/model' is bad: s3://bucket/a/b, next", "'…' is bad: …, next"),
        ("arn:aws:iam::123456789012:role/x cannot read file:///tmp/a", "… cannot read …"),
        ("(/root/.cache/hub/): gone", "(…): gone"),
        ("width/height must be 1/2 of https://x.org/a/b", None),
    ],
)
def test_what_a_server_says_shows_no_place_in_its_container(said, shown):
    report = BACKEND.report(400, json.dumps({"detail": said}))

    assert report["message"].endswith(f": {shown or said}")


# What FastAPI, pydantic and vLLM answer: `detail` as text or as a list, or an error object.
@pytest.mark.parametrize(
    ("status", "answer", "field", "words"),
    [
        (400, {"detail": "Invalid size format: 'axb'."}, "width", "Invalid size format"),
        (
            422,
            {"detail": [{"loc": ["body", "num_inference_steps"], "msg": "must be <= 200"}]},
            "steps",
            "steps: must be <= 200",
        ),
        (
            400,
            {"error": {"message": "guidance_scale is too large", "param": None, "code": 400}},
            "guidance_scale",
            "guidance_scale is too large",
        ),
        (
            400,
            {
                "error": {
                    "message": "1 validation error:\n  {'type': 'less_than_equal', 'loc': ('body',"
                    " 'num_inference_steps'), 'msg': 'Input should be less than or equal to 200',"
                    " 'input': 300}",
                    "type": "Bad Request",
                    "param": None,
                    "code": 400,
                }
            },
            "steps",
            "steps: Input should be less than or equal to 200",
        ),
        (
            400,
            {"error": {"message": "Too small.", "param": "body.guidance_scale", "code": 400}},
            "guidance_scale",
            "guidance_scale: Too small.",
        ),
        (400, {"error": {"message": 'quotes "out of memory"', "code": 400}}, None, "quotes"),
        (400, {"object": "error", "message": "seed: bad", "code": 400}, "seed", "seed: bad"),
        (400, {"detail": "No."}, None, "The model refused this request: No."),
    ],
)
def test_errors_of_the_caller_are_read(status, answer, field, words):
    report = BACKEND.report(status, json.dumps(answer))

    assert report["code"] == "invalid_request"
    assert report.get("field") == field
    assert words in report["message"]


@pytest.mark.parametrize("status", [404, 500, 503, None])
def test_other_errors_are_not_the_callers(status):
    assert BACKEND.report(status, json.dumps({"detail": "Not Found"})) == {}


def test_a_filter_of_the_server_is_reported():
    answer = {"error": {"message": "No.", "code": "content_policy_violation"}}

    assert BACKEND.report(400, json.dumps(answer))["code"] == "moderation_blocked"


def test_a_message_is_one_short_line():
    report = BACKEND.report(400, json.dumps({"detail": "a\n\x1bb" + "c" * 1_000}))

    assert report["message"].isprintable()
    assert len(report["message"]) < 400
