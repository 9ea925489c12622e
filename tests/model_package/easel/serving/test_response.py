import base64
import io

import pytest
from PIL import Image

from tests.model_package.doubles.toolkit import Toolkit

REQUEST = {"prompt": "a cat", "seed": 7}
SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "webp": b"RIFF", "jpeg": b"\xff\xd8\xff"}


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_each_format_is_returned_as_raw_bytes(quick_toolkit, kind):
    response = quick_toolkit.post({**REQUEST, "format": kind}, accept=f"image/{kind}")
    assert response.status == 200
    assert response.body.startswith(SIGNATURES[kind])


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json; q=1"])
@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_without_an_image_type_the_response_is_json(quick_toolkit, accept, kind):
    response = quick_toolkit.post({**REQUEST, "format": kind}, accept=accept)
    assert response.status == 200
    body = response.json()
    assert body["format"] == kind
    assert base64.b64decode(body["image"], validate=True).startswith(SIGNATURES[kind])
    assert body["request"] == {
        **REQUEST,
        "negative_prompt": "",
        "steps": 2,
        "guidance_scale": 5.0,
        "width": 64,
        "height": 64,
        "lora": "",
        "format": kind,
    }


def test_the_responses_request_makes_the_same_picture_again(quick_toolkit):
    first = quick_toolkit.post({"prompt": "a cat"}).json()
    again = quick_toolkit.post(first["request"]).json()
    assert again == first
    assert quick_toolkit.post({"prompt": "a cat"}).json()["request"] != first["request"]


@pytest.mark.parametrize("accept", ["image/webp", "image/jpeg"])
def test_a_format_that_is_not_the_accepted_one_is_refused(quick_toolkit, accept):
    response = quick_toolkit.post({**REQUEST, "format": "png"}, accept=accept)
    assert (response.status, response.error["field"]) == (400, "format")


@pytest.mark.parametrize("accept", ["image/*", "text/html", "image/png,application/json;q=0.9"])
def test_an_accept_header_that_names_no_single_format_is_refused(quick_toolkit, accept):
    response = quick_toolkit.post(REQUEST, accept=accept)
    assert (response.status, response.error["field"]) == (400, "Accept")


def test_a_wrong_accept_header_is_refused_before_anything_is_generated(quick_toolkit, capsys):
    quick_toolkit.post(REQUEST, accept="text/html")
    assert "picture" not in capsys.readouterr().out


def test_the_file_says_how_it_was_made_unless_that_is_turned_off(
    quick_toolkit, stand_in, monkeypatch
):
    with Image.open(io.BytesIO(quick_toolkit.post(REQUEST, accept="image/png").body)) as image:
        assert image.text["parameters"].startswith("a cat\nSteps: 2, Sampler: Euler, CFG scale: 5,")
    monkeypatch.setenv("EASEL_METADATA", "off")
    with Image.open(
        io.BytesIO(Toolkit(stand_in()).post(REQUEST, accept="image/png").body)
    ) as image:
        assert image.text == {}
