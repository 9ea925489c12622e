"""The dialect of AUTOMATIC1111's web UI: recorded requests of programs, and its corner cases."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.batches.automatic1111 import FORMATS
from chalicelib.dialects.automatic1111 import read_txt2img, render_error
from chalicelib.errors import EndpointBusy, InvalidRequest, PictureRefused
from chalicelib.generation import Name
from chalicelib.images.service import ImageService
from chalicelib.settings import Model, Settings
from chalicelib.web.request import Request
from tests import recorded

ROUTE = "/sdapi/v1/txt2img"
REQUEST = Request("POST", ROUTE, ROUTE, {}, {}, "an-id")
SERVICE = ImageService(Settings.from_environment({"EASEL_MODELS": '{"sd": {"endpoint": "e"}}'}))
BODIES = {name: each["body"] for name, each in recorded.BODIES.items() if each["path"] == ROUTE}


def generate(client, **body):
    response = client.post(ROUTE, {"prompt": "a cat", **body})
    assert response.status_code == 200, response.body
    response = json.loads(response.body)
    return response, json.loads(response["info"])


def refused(client, **body):
    response = client.post(ROUTE, {"prompt": "a cat", **body})
    assert response.status_code == 422
    assert client.asked == []
    (detail,) = json.loads(response.body)["detail"]
    return detail


@pytest.mark.parametrize("program", BODIES)
def test_what_a_front_end_sends_generates_a_picture(client, program):
    response, info = generate(client, **BODIES[program])

    assert base64.b64decode(response["images"][0]).startswith(b"\x89PNG")
    (asked,) = client.asked
    assert (asked["prompt"], asked["width"]) == ("a cat", BODIES[program]["width"])
    assert info["infotexts"][0].startswith("a cat")
    assert info["seed"] == asked["seed"]


def test_the_web_uis_names_become_the_contracts(client):
    generate(client, negative_prompt="a dog", steps=3, cfg_scale=4.5, width=64, height=128, seed=7)

    (asked,) = client.asked
    assert asked["negative_prompt"] == "a dog"
    assert (asked["steps"], asked["guidance_scale"], asked["seed"]) == (3, 4.5, 7)
    assert (asked["width"], asked["height"]) == (64, 128)


def test_what_is_left_out_the_model_decides(client):
    response, _ = generate(client)

    assert not {"steps", "guidance_scale", "width", "height"} & set(client.asked[0])
    assert response["parameters"]["steps"] is None


@pytest.mark.parametrize("seed", [-1, -1.0, "-1", "-1.0", None])
def test_a_seed_of_minus_one_is_any(client, seed):
    _, info = generate(client, seed=seed)

    assert 0 <= info["seed"] == client.asked[0]["seed"]


def test_numbers_can_be_text(client):
    generate(client, steps="20", cfg_scale="7.5", seed="7")

    (asked,) = client.asked
    assert (asked["steps"], asked["guidance_scale"], asked["seed"]) == (20, 7.5, 7)


def test_an_empty_list_is_an_empty_object(client):
    assert generate(client, override_settings=[], alwayson_scripts=[])


def test_batch_size_and_n_iter_multiply_to_as_many_seeds(client):
    response, info = generate(client, batch_size=2, n_iter=2, seed=7)

    assert len(response["images"]) == len(info["infotexts"]) == 4
    assert info["all_seeds"] == [7, 8, 9, 10]
    assert sorted(asked["seed"] for asked in client.asked) == [7, 8, 9, 10]


def test_adapters_in_the_prompt_leave_it_and_come_back_in_the_answer(client):
    response, info = generate(client, prompt="a cat <lora:pixel:0.5>, night<lora:ink>")

    (asked,) = client.asked
    assert (asked["prompt"], asked["lora"]) == ("a cat , night", "ink:1,pixel:0.5")
    assert info["prompt"].endswith("<lora:ink:1> <lora:pixel:0.5>")
    assert response["parameters"]["prompt"] == info["prompt"]


def test_an_adapter_is_named_by_its_file_or_by_itself(client):
    name = Name.of("Ink & wash v1.0")
    for tag in ("<lora:Ink & wash v1.0:8>", "<lyco:Ink & wash v1.0:8>", f"<lora:{name}:8>"):
        _, info = generate(client, prompt=f"a cat {tag}")
        assert client.asked[-1]["lora"] == f"{name}:8"
        assert info["prompt"].endswith(f"<lora:{name}:8>")


def test_an_adapter_that_the_model_refuses_is_in_the_prompt(client):
    reason = "unknown adapter ink; available: pixel"
    error = InvalidRequest(f"lora: {reason}", field="lora")
    (detail,) = json.loads(render_error(error, REQUEST).body)["detail"]
    assert (detail["loc"], detail["msg"]) == (["body", "prompt"], f"prompt: {reason}")


def test_a_model_can_be_named_and_an_unknown_one_is_the_default(client):
    _, named = generate(client, override_settings={"sd_model_checkpoint": "sdxl"})
    _, other = generate(client, override_settings={"sd_model_checkpoint": "v1-5 [6ce0161689]"})

    assert (named["sd_model_name"], other["sd_model_name"]) == ("sdxl", "sd")


@pytest.mark.parametrize(("samples_format", "start"), [("webp", b"RIFF"), ("jpg", b"\xff\xd8")])
def test_another_format_can_be_requested(client, samples_format, start):
    response, _ = generate(client, override_settings={"samples_format": samples_format})

    assert base64.b64decode(response["images"][0]).startswith(start)


def test_the_size_is_the_pictures_own(client):
    _, info = generate(client)

    assert (info["width"], info["height"]) == (8, 8)


def test_nothing_of_the_body_is_sent_back_but_what_was_understood(client):
    response = client.post(
        ROUTE, {"prompt": "a cat", "auth": "user:secret", "url": "http://private"}
    )

    assert b"secret" not in response.body
    assert b"private" not in response.body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "a <lora:name:much>"}, "prompt"),
        ({"prompt": "a <hypernet:name:1>"}, "prompt"),
        ({"prompt": "a <lora:ink> <lora:ink:0.5>"}, "prompt"),
        ({"prompt": "<lora:ink>"}, "prompt"),
        ({"negative_prompt": "x" * 1_001}, "negative_prompt"),
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"cfg_scale": 31}, "cfg_scale"),
        ({"cfg_scale": "nan"}, "cfg_scale"),
        ({"width": 100}, "width"),
        ({"height": "tall"}, "height"),
        ({"seed": 2**32}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": -2}, "seed"),
        ({"batch_size": 5}, "batch_size"),
        ({"n_iter": 0}, "n_iter"),
        ({"batch_size": 2, "n_iter": 3}, "batch_size"),
        ({"width": 1536, "height": 1536, "batch_size": 4}, "batch_size"),
        ({"enable_hr": True}, "enable_hr"),
        ({"send_images": False}, "send_images"),
        ({"script_name": "x/y/z plot"}, "script_name"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}}}, "alwayson_scripts"),
        ({"override_settings": [1]}, "override_settings"),
        ({"override_settings": False}, "override_settings"),
        ({"override_settings": {"sd_model_checkpoint": ["sd"]}}, "override_settings"),
        ({"override_settings": {"samples_format": 7}}, "override_settings"),
        ({"override_settings": {"samples_format": "gif"}}, "override_settings"),
        ({"override_settings": {"samples_format": ""}}, "override_settings"),
        ({"override_settings": {"samples_format": ["png"]}}, "override_settings"),
        ({"tiling": True}, "tiling"),
        ({"subseed_strength": 0.1}, "subseed_strength"),
        ({"subseed_strength": "much"}, "subseed_strength"),
        ({"seed_resize_from_w": 512, "seed_resize_from_h": "512"}, "seed_resize_from_w"),
        ({"seed_resize_from_h": "512"}, "seed_resize_from_h"),
        ({"refiner_checkpoint": "sdxl-refiner"}, "refiner_checkpoint"),
        ({"refiner_checkpoint": ["sdxl"]}, "refiner_checkpoint"),
        ({"infotext": "Steps: 20"}, "infotext"),
    ],
)
def test_a_wrong_field_is_a_422_that_names_it(client, body, field):
    assert refused(client, **body)["loc"] == ["body", field]


OFF = [False, 0, 0.0, "0", "false", "False", "off", "no", "f", "n"]
ON = [True, 1, 1.0, "1", "true", "TRUE", "on", "yes", "t", "y"]


@pytest.mark.parametrize("value", OFF)
def test_what_is_false_to_the_web_ui_is_false_here(client, value):
    assert refused(client, send_images=value)["msg"].startswith("send_images: must be true;")
    assert generate(client, enable_hr=value, tiling=value, disable_extra_networks=value)


@pytest.mark.parametrize("value", ON)
def test_what_is_true_to_the_web_ui_is_true_here(client, value):
    assert refused(client, enable_hr=value)["msg"].startswith("enable_hr: is not supported")
    assert generate(client, send_images=value)


@pytest.mark.parametrize("value", [2, 0.5, -1, "", "maybe", [], {}])
@pytest.mark.parametrize("name", ["enable_hr", "tiling", "send_images", "disable_extra_networks"])
def test_anything_else_is_neither(client, name, value):
    assert refused(client, prompt="a", **{name: value})["msg"] == f"{name}: must be true or false"


def test_tags_can_be_turned_off(client):
    fields = {"prompt": "a cat <lora:ink:1>", "disable_extra_networks": True}
    _, info = generate(client, **fields)

    assert info["prompt"] == "a cat"
    assert client.asked[-1]["lora"] == ""


@given(st.text(max_size=8) | st.sampled_from(["PNG", "jpg", "Jpeg", "wEbp"]))
def test_a_format_is_the_one_that_was_named_or_an_error(text):
    body = {"prompt": "a", "override_settings": {"samples_format": text}}
    if text.lower() in FORMATS:
        (generation,) = read_txt2img(SERVICE, body).generations
        assert generation.format == FORMATS[text.lower()]
    else:
        with pytest.raises(InvalidRequest, match="samples_format must be one of png, webp"):
            read_txt2img(SERVICE, body)


# Also what the fields that turn features on have by default in the clients of docs/dialects.md.
@pytest.mark.parametrize(
    "fields",
    [
        {"subseed": -1, "subseed_strength": 0.0, "seed_resize_from_h": 0, "seed_resize_from_w": 0},
        {"subseed_strength": -1, "seed_resize_from_h": -1, "seed_resize_from_w": -1},
        {"subseed_strength": "0", "seed_resize_from_w": "-1"},
        {"refiner_checkpoint": "", "refiner_switch_at": 0.8, "infotext": ""},
        {"refiner_checkpoint": "None"},
        {"tiling": None, "send_images": None, "enable_hr": None, "subseed_strength": None},
        {"override_settings": {"samples_format": None}},
        {"override_settings": {"samples_format": "PNG"}},
    ],
)
def test_a_field_that_is_turned_off_changes_nothing(client, fields):
    assert generate(client, **fields)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"[" * 100_000, b'"text"', b"\xff"])
def test_a_body_that_is_not_a_json_object_is_a_422(client, body):
    response = client.post(ROUTE, body)

    assert response.status_code == 422
    assert json.loads(response.body)["detail"][0]["loc"] == ["body"]


def test_errors_are_reported_in_the_web_uis_format():
    response = render_error(EndpointBusy("The model is busy."), REQUEST)

    described = json.loads(response.body)
    assert (response.status, described["error"]) == (503, "endpoint_busy")
    assert described["detail"] == described["errors"] == "The model is busy."
    assert response.headers["Retry-After"] == "15"
    assert response.headers["x-request-id"] == "an-id"


def test_a_refused_picture_is_a_400():
    assert render_error(PictureRefused("No."), REQUEST).status == 400


def test_the_log_says_how_many_pictures_and_not_of_what(client, log):
    client.post(ROUTE, {"prompt": "a secret wish", "batch_size": 2})

    lines = log()
    assert json.loads(lines[0])["pictures"] == 2
    assert "secret" not in "".join(lines)


def test_configured_defaults_are_left_to_the_model(client):
    client.offer({"sd": Model("sd", "easel-sd", defaults={"steps": 25})})
    generate(client)

    assert "steps" not in client.asked[0]


ALWAYS = {
    "subseed": 0,
    "all_subseeds": [0, 0],
    "subseed_strength": 0,
    "restore_faces": False,
    "sd_model_hash": "",
    "sd_vae_name": "",
    "sd_vae_hash": "",
    "seed_resize_from_w": -1,
    "seed_resize_from_h": -1,
    "denoising_strength": 0,
    "extra_generation_params": {},
    "clip_skip": 1,
    "is_using_inpainting_conditioning": False,
}


@pytest.mark.parametrize("samples_format", ["png", "webp", "jpg"])
@pytest.mark.parametrize("fields", [{}, {"steps": 3, "cfg_scale": 2, "width": 64, "height": 64}])
def test_info_has_every_field_of_the_web_ui_and_nothing_is_null(client, samples_format, fields):
    override = {"samples_format": samples_format}
    _, info = generate(client, batch_size=2, override_settings=override, **fields)

    assert {name: info[name] for name in ALWAYS} == ALWAYS
    assert None not in info.values()
    assert info["steps"] == fields.get("steps", 20)


@pytest.mark.parametrize(
    "scripts",
    [{}, [], {"ControlNet": {"args": []}}, {"a": {"args": []}, "b": {}}, {"a": {"args": {}}}],
)
def test_scripts_without_arguments_change_nothing(client, scripts):
    assert generate(client, alwayson_scripts=scripts, script_name="", script_args=[])


@pytest.mark.parametrize(
    "scripts", [{"a": {"args": []}, "b": {"args": [False]}}, {"a": [1]}, ["a"], "a", 1]
)
def test_other_scripts_are_refused(client, scripts):
    assert refused(client, alwayson_scripts=scripts)["loc"] == ["body", "alwayson_scripts"]
