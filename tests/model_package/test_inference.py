"""A request through the four functions, with real, tiny pipelines."""

import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

import inference
from tests.model_package.doubles.toolkit import Toolkit

SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "webp": b"RIFF", "jpeg": b"\xff\xd8\xff"}
REQUEST = {"prompt": "a cat", "seed": 7}


def pixels_of(file):
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


def test_a_prompt_becomes_a_png(quick_toolkit):
    response = quick_toolkit.post(REQUEST, accept="image/png")
    assert response.status == 200
    assert response.body.startswith(SIGNATURES["png"])
    assert pixels_of(response.body).shape == (64, 64, 3)
    assert pixels_of(response.body).std() > 1


def test_the_same_request_gives_the_same_bytes_and_another_seed_others(quick_toolkit):
    first = quick_toolkit.post(REQUEST, accept="image/png").body
    other = quick_toolkit.post({**REQUEST, "seed": 8}, accept="image/png").body
    assert quick_toolkit.post(REQUEST, accept="image/png").body == first
    assert other != first


def test_a_reloaded_model_gives_the_same_bytes(quick_toolkit, stand_in):
    first = quick_toolkit.post(REQUEST, accept="image/png").body
    assert Toolkit(stand_in()).post(REQUEST, accept="image/png").body == first


def test_prompt_negative_prompt_steps_and_guidance_change_the_picture(quick_toolkit):
    requests = [
        REQUEST,
        {**REQUEST, "prompt": "a dog"},
        {**REQUEST, "negative_prompt": "grass"},
        {**REQUEST, "steps": 3},
        {**REQUEST, "guidance_scale": 9.5},
    ]
    files = [quick_toolkit.post(body).json()["image"] for body in requests]
    assert len(set(files)) == len(requests)


def test_a_size_is_generated_as_asked(quick_toolkit):
    response = quick_toolkit.post({**REQUEST, "width": 72, "height": 128}, accept="image/png")
    assert pixels_of(response.body).shape == (128, 72, 3)


def test_threads_get_the_bytes_that_they_would_get_alone(quick_toolkit):
    requests = [{**REQUEST, "seed": seed} for seed in range(4)]
    alone = [quick_toolkit.post(request, accept="image/png").body for request in requests]
    together = {}

    def ask(place):
        together[place] = quick_toolkit.post(requests[place], accept="image/png").body

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(4)] == alone


def test_sdxl_generates_too(stand_in):
    toolkit = Toolkit(stand_in(kind="sdxl"))
    first = toolkit.post(REQUEST, accept="image/png")
    assert first.status == 200
    assert pixels_of(first.body).shape == (64, 64, 3)
    assert toolkit.post(REQUEST, accept="image/png").body == first.body


def test_a_picture_that_the_safety_checker_blocks_is_refused_and_not_black(stand_in):
    response = Toolkit(stand_in(safety_checker="blocks")).post(REQUEST, accept="image/png")
    assert response.status == 422
    assert response.error["code"] == "moderation_blocked"


def test_a_picture_that_the_safety_checker_passes_is_shown(stand_in, quick_toolkit):
    toolkit = Toolkit(stand_in(safety_checker="passes"))
    response = toolkit.post(REQUEST, accept="image/png")
    assert response.status == 200
    assert response.body == quick_toolkit.post(REQUEST, accept="image/png").body


@pytest.mark.parametrize(
    "prompt",
    ["(" * 1_000, "[" * 999 + "a", "((a:1.2" * 140, "a++ [b] " * 125, "<|endoftext|>" * 76],
)
def test_a_hostile_prompt_is_generated_like_any_other(quick_toolkit, prompt):
    request = {**REQUEST, "prompt": prompt, "negative_prompt": prompt}
    assert quick_toolkit.post(request, accept="image/png").status == 200


def pictures_of(toolkit, prompts):
    """Return the different pictures of some prompts; the files differ, as they hold the prompt."""
    files = [
        toolkit.post({**REQUEST, "prompt": prompt}, accept="image/png").body for prompt in prompts
    ]
    return {pixels_of(file).tobytes() for file in files}


def test_the_weights_in_a_prompt_change_the_picture(quick_toolkit):
    prompts = ["a cat", "a (cat:1.4)", "a (cat)1.2", "a [cat]", "a cat++"]
    assert len(pictures_of(quick_toolkit, prompts)) == len(prompts)


def test_the_end_of_a_long_prompt_changes_the_picture(quick_toolkit):
    prompts = [f"{'a cat on a mat, ' * 10}{end}" for end in ("", "dog", "red dog")]
    assert len(pictures_of(quick_toolkit, prompts)) == len(prompts)


def test_two_ways_of_writing_the_same_weight_give_the_same_picture(quick_toolkit):
    prompts = ["a (red cat:1.21)", "a (red cat)1.21", "a ((red cat))", "a (red cat)++"]
    assert len(pictures_of(quick_toolkit, prompts)) == 1


class BareContext:
    """A context without anything."""


class EmptyContext:
    """A context between requests, as the toolkit's own is then."""

    def get_request_header(self, *_):
        raise TypeError("'NoneType' object is not subscriptable")

    def set_response_status(self, code=200, phrase="", idx=0):
        pass


@pytest.mark.parametrize("context_type", [BareContext, EmptyContext, lambda: None])
def test_a_context_that_lacks_things_does_not_matter(stand_in, context_type):
    toolkit = Toolkit(stand_in(), context_type)
    assert toolkit.post(REQUEST, accept="image/png").body.startswith(SIGNATURES["png"])
    assert toolkit.post({}, accept="image/png").error["field"] == "prompt"
    assert toolkit.post(REQUEST, accept="image/webp").error["field"] == "format"


def test_the_context_may_be_left_out(stand_in):
    model = inference.model_fn(str(stand_in()))
    request = inference.input_fn(json.dumps(REQUEST), "application/json")
    picture = inference.predict_fn(request, model)
    assert inference.output_fn(picture, "image/png").startswith(SIGNATURES["png"])


def test_a_model_that_cannot_be_loaded_is_a_500_and_the_log_says_why(tmp_path, capsys):
    toolkit = Toolkit(tmp_path)
    logged = json.loads(capsys.readouterr().out)
    assert logged["event"] == "model_unusable"
    assert str(tmp_path) in logged["error"]
    response = toolkit.post(REQUEST, accept="image/png")
    assert (response.status, response.error["code"]) == (500, "model_unusable")
    assert str(tmp_path) not in response.body


def test_a_setting_that_cannot_be_read_is_a_500_and_the_log_names_it(stand_in, monkeypatch, capsys):
    monkeypatch.setenv("EASEL_DTYPE", "int4")
    assert Toolkit(stand_in()).post(REQUEST).status == 500
    assert "EASEL_DTYPE" in capsys.readouterr().out


def test_one_line_of_json_is_logged_per_picture(quick_toolkit, capsys):
    quick_toolkit.post({**REQUEST, "model": "tiny"})
    (line,) = capsys.readouterr().out.splitlines()
    logged = json.loads(line)
    assert logged.pop("seconds") >= 0
    assert logged == {
        "event": "picture",
        "seed": 7,
        "steps": 2,
        "guidance_scale": 5.0,
        "width": 64,
        "height": 64,
        "model": "tiny",
        "lora": "",
        "format": "png",
    }


def test_the_prompt_is_logged_when_a_setting_says_so(stand_in, monkeypatch, capsys):
    monkeypatch.setenv("EASEL_LOG_PROMPTS", "on")
    Toolkit(stand_in()).post({**REQUEST, "prompt": "名前\u2028\x85 one line"})
    logged = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    assert [line["event"] for line in logged] == ["model_loaded", "picture"]
    assert logged[1]["prompt"] == "名前 one line"


def test_more_steps_than_the_scheduler_has_are_a_bad_request_that_names_the_limit(
    stand_in, monkeypatch
):
    monkeypatch.setenv("EASEL_SAMPLER", "lcm")
    toolkit = Toolkit(stand_in())
    response = toolkit.post({**REQUEST, "steps": 51})
    error = json.loads(response.body)["error"]

    assert (response.status, error["field"]) == (400, "steps")
    assert "from 1 to 50" in error["message"]
    described = json.loads(toolkit.post({"describe": True}).body)
    assert described["limits"] == {"steps": {"maximum": 50}}
    assert toolkit.post({**REQUEST, "steps": 50}).status == 200


def test_a_default_that_does_not_fit_the_scheduler_is_no_fault_of_a_caller(
    stand_in, monkeypatch, capsys
):
    monkeypatch.setenv("EASEL_SAMPLER", "lcm")
    monkeypatch.setenv("EASEL_DEFAULTS", '{"steps": 60, "width": 64, "height": 64}')
    response = Toolkit(stand_in()).post(REQUEST)

    assert (response.status, json.loads(response.body)["error"]["code"]) == (500, "model_unusable")
    assert "steps: must be a whole number from 1 to 50" in capsys.readouterr().out
