"""The way of a request through the four functions, with real, tiny pipelines."""

import base64
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

import inference
from tests.model_package.doubles.toolkit import Toolkit

WISH = {"prompt": "a cat", "seed": 7}
SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "webp": b"RIFF", "jpeg": b"\xff\xd8\xff"}


@pytest.fixture(scope="module")
def quick_toolkit(stand_in):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EASEL_DEFAULTS", '{"steps": 2, "width": 64, "height": 64}')
        return Toolkit(stand_in())


def pixels_of(file):
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


def test_a_prompt_becomes_a_png(quick_toolkit):
    answer = quick_toolkit.post(WISH, accept="image/png")
    assert answer.status == 200
    assert answer.body.startswith(SIGNATURES["png"])
    assert pixels_of(answer.body).shape == (64, 64, 3)
    assert pixels_of(answer.body).std() > 1


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_each_format_is_answered_as_raw_bytes(quick_toolkit, kind):
    answer = quick_toolkit.post({**WISH, "format": kind}, accept=f"image/{kind}")
    assert answer.status == 200
    assert answer.body.startswith(SIGNATURES[kind])


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json; q=1"])
@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_without_an_image_type_the_answer_is_json(quick_toolkit, accept, kind):
    answer = quick_toolkit.post({**WISH, "format": kind}, accept=accept)
    assert answer.status == 200
    body = answer.json()
    assert body["format"] == kind
    assert base64.b64decode(body["image"], validate=True).startswith(SIGNATURES[kind])
    assert body["request"] == {
        **WISH,
        "negative_prompt": "",
        "steps": 2,
        "guidance_scale": 5.0,
        "width": 64,
        "height": 64,
        "lora": "",
        "format": kind,
    }


def test_the_answers_request_makes_the_same_picture_again(quick_toolkit):
    first = quick_toolkit.post({"prompt": "a cat"}).json()
    again = quick_toolkit.post(first["request"]).json()
    assert again == first
    assert quick_toolkit.post({"prompt": "a cat"}).json()["request"] != first["request"]


def test_the_same_request_gives_the_same_bytes_and_another_seed_others(quick_toolkit):
    first = quick_toolkit.post(WISH, accept="image/png").body
    other = quick_toolkit.post({**WISH, "seed": 8}, accept="image/png").body
    assert quick_toolkit.post(WISH, accept="image/png").body == first
    assert other != first


def test_a_reloaded_model_gives_the_same_bytes(quick_toolkit, stand_in):
    first = quick_toolkit.post(WISH, accept="image/png").body
    assert Toolkit(stand_in()).post(WISH, accept="image/png").body == first


def test_prompt_negative_prompt_steps_and_guidance_change_the_picture(quick_toolkit):
    wishes = [
        WISH,
        {**WISH, "prompt": "a dog"},
        {**WISH, "negative_prompt": "grass"},
        {**WISH, "steps": 3},
        {**WISH, "guidance_scale": 9.5},
    ]
    files = [quick_toolkit.post(each).json()["image"] for each in wishes]
    assert len(set(files)) == len(wishes)


def test_a_size_is_painted_as_asked(quick_toolkit):
    answer = quick_toolkit.post({**WISH, "width": 72, "height": 128}, accept="image/png")
    assert pixels_of(answer.body).shape == (128, 72, 3)


def test_threads_get_the_bytes_that_they_would_get_alone(quick_toolkit):
    wishes = [{**WISH, "seed": seed} for seed in range(4)]
    alone = [quick_toolkit.post(wish, accept="image/png").body for wish in wishes]
    together = {}

    def ask(place):
        together[place] = quick_toolkit.post(wishes[place], accept="image/png").body

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(4)] == alone


def test_sdxl_paints_too(stand_in):
    toolkit = Toolkit(stand_in(kind="sdxl"))
    first = toolkit.post(WISH, accept="image/png")
    assert first.status == 200
    assert pixels_of(first.body).shape == (64, 64, 3)
    assert toolkit.post(WISH, accept="image/png").body == first.body


def test_a_picture_that_the_safety_checker_blocks_is_refused_and_not_black(stand_in):
    answer = Toolkit(stand_in(safety_checker="blocks")).post(WISH, accept="image/png")
    assert answer.status == 422
    assert answer.error["code"] == "moderation_blocked"


def test_a_picture_that_the_safety_checker_passes_is_shown(stand_in, quick_toolkit):
    toolkit = Toolkit(stand_in(safety_checker="passes"))
    answer = toolkit.post(WISH, accept="image/png")
    assert answer.status == 200
    assert answer.body == quick_toolkit.post(WISH, accept="image/png").body


@pytest.mark.parametrize(
    "prompt",
    ["(" * 1_000, "[" * 999 + "a", "((a:1.2" * 140, "a++ [b] " * 125, "<|endoftext|>" * 76],
)
def test_a_hostile_prompt_is_painted_like_any_other(quick_toolkit, prompt):
    wish = {**WISH, "prompt": prompt, "negative_prompt": prompt}
    assert quick_toolkit.post(wish, accept="image/png").status == 200


def pictures_of(toolkit, prompts):
    """Return the different pictures of some prompts; the files differ, as they hold the prompt."""
    files = [toolkit.post({**WISH, "prompt": each}, accept="image/png").body for each in prompts]
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


HOSTILE_BODIES = [
    (b"", None),
    (b"{", None),
    (b"\xff\xfe", None),
    (b"[]", None),
    (b'"a cat"', None),
    (b"null", None),
    (b"[" * 100_000, None),
    (b"{}", "prompt"),
    (b'{"prompt": null}', "prompt"),
    (b'{"prompt": ""}', "prompt"),
    (b'{"prompt": ["a"]}', "prompt"),
    (b'{"prompt": "\\ud800"}', "prompt"),
    (b'{"prompt": "a\\u0000b"}', "prompt"),
    (b'{"prompt": "a", "seed": -1}', "seed"),
    (b'{"prompt": "a", "seed": 1e999}', "seed"),
    (b'{"prompt": "a", "steps": true}', "steps"),
    (b'{"prompt": "a", "steps": 1000000}', "steps"),
    (b'{"prompt": "a", "guidance_scale": NaN}', "guidance_scale"),
    (b'{"prompt": "a", "width": 65}', "width"),
    (b'{"prompt": "a", "height": 8192}', "height"),
    (b'{"prompt": "a", "format": "gif"}', "format"),
    (b'{"prompt": "a", "model": "../../etc/passwd"}', "model"),
    (b'{"prompt": "a", "__class__": "x"}', "__class__"),
    (b'{"inputs": "a cat"}', "inputs"),
]


@pytest.mark.parametrize(("body", "field"), HOSTILE_BODIES)
def test_a_bad_body_is_refused_by_the_fields_name(quick_toolkit, body, field):
    # As bytes: text that is no UTF-8 fails in the toolkit itself when the type is exactly JSON.
    answer = quick_toolkit.post(
        body, content_type="application/json; charset=utf-8", accept="image/png"
    )
    assert answer.status == 400
    assert answer.error["code"] == "invalid_request"
    assert answer.error.get("field") == field
    assert answer.error["message"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_may_be_announced_in_any_of_its_spellings(quick_toolkit, content_type):
    assert quick_toolkit.post(WISH, content_type=content_type).status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "text/csv", "", "image/png"])
def test_another_content_type_is_refused(quick_toolkit, content_type):
    answer = quick_toolkit.post(WISH, content_type=content_type)
    assert (answer.status, answer.error["field"]) == (400, "Content-Type")


@pytest.mark.parametrize("accept", ["image/webp", "image/jpeg"])
def test_a_format_that_is_not_the_accepted_one_is_refused(quick_toolkit, accept):
    answer = quick_toolkit.post({**WISH, "format": "png"}, accept=accept)
    assert (answer.status, answer.error["field"]) == (400, "format")


@pytest.mark.parametrize("accept", ["image/*", "text/html", "image/png,application/json;q=0.9"])
def test_an_accept_header_that_names_no_single_format_is_refused(quick_toolkit, accept):
    answer = quick_toolkit.post(WISH, accept=accept)
    assert (answer.status, answer.error["field"]) == (400, "Accept")


def test_a_wrong_accept_header_is_refused_before_anything_is_painted(quick_toolkit, capsys):
    quick_toolkit.post(WISH, accept="text/html")
    assert "picture" not in capsys.readouterr().out


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
    assert toolkit.post(WISH, accept="image/png").body.startswith(SIGNATURES["png"])
    assert toolkit.post({}, accept="image/png").error["field"] == "prompt"
    assert toolkit.post(WISH, accept="image/webp").error["field"] == "format"


def test_the_context_may_be_left_out(stand_in):
    model = inference.model_fn(str(stand_in()))
    request = inference.input_fn(json.dumps(WISH), "application/json")
    picture = inference.predict_fn(request, model)
    assert inference.output_fn(picture, "image/png").startswith(SIGNATURES["png"])


def test_a_model_that_cannot_be_loaded_is_a_500_and_the_log_says_why(tmp_path, capsys):
    toolkit = Toolkit(tmp_path)
    logged = json.loads(capsys.readouterr().out)
    assert logged["event"] == "model_unusable"
    assert str(tmp_path) in logged["error"]
    answer = toolkit.post(WISH, accept="image/png")
    assert (answer.status, answer.error["code"]) == (500, "model_unusable")
    assert str(tmp_path) not in answer.body


def test_a_setting_that_cannot_be_read_is_a_500_and_the_log_names_it(stand_in, monkeypatch, capsys):
    monkeypatch.setenv("EASEL_DTYPE", "int4")
    assert Toolkit(stand_in()).post(WISH).status == 500
    assert "EASEL_DTYPE" in capsys.readouterr().out


def test_one_line_of_json_is_logged_per_picture(quick_toolkit, capsys):
    quick_toolkit.post({**WISH, "model": "tiny"})
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
    Toolkit(stand_in()).post({**WISH, "prompt": "名前\u2028\x85 one line"})
    logged = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    assert [each["event"] for each in logged] == ["model_loaded", "picture"]
    assert logged[1]["prompt"] == "名前 one line"


def test_the_file_says_how_it_was_made_unless_that_is_turned_off(
    quick_toolkit, stand_in, monkeypatch
):
    with Image.open(io.BytesIO(quick_toolkit.post(WISH, accept="image/png").body)) as image:
        assert image.text["parameters"].startswith("a cat\nSteps: 2, Sampler: Euler, CFG scale: 5,")
    monkeypatch.setenv("EASEL_METADATA", "off")
    with Image.open(io.BytesIO(Toolkit(stand_in()).post(WISH, accept="image/png").body)) as image:
        assert image.text == {}
