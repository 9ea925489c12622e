"""Pictures as bytes."""

import io

import pytest
from PIL import Image

from chalicelib.errors import BadPicture
from chalicelib.generation import GenerationRequest
from chalicelib.image_files import check_picture, content_disposition, file_names

FORMATS = ["png", "webp", "jpeg"]


def picture(format):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), "teal").save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_a_whole_picture_passes(format):
    check_picture(picture(format), format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_that_ends_early_or_is_something_else_is_refused(format):
    others = [picture(other) for other in FORMATS if other != format]
    for body in [picture(format)[:-1], picture(format)[:20], b"", b"<html></html>", *others]:
        with pytest.raises(BadPicture):
            check_picture(body, format)


@pytest.mark.parametrize(
    ("prompt", "plain", "full"),
    [
        ("a red apple", "a-red-apple-7.png", "a-red-apple-7.png"),
        ('../../"etc"; rm -rf /\\', "etc-rm-rf-7.png", "etc-rm-rf-7.png"),
        ("猫", "easel-7.png", "猫-7.png"),
        ("café au lait", "caf-au-lait-7.png", "café-au-lait-7.png"),
        ("?!", "easel-7.png", "easel-7.png"),
        ("x" * 500, "x" * 60 + "-7.png", "x" * 60 + "-7.png"),
    ],
)
def test_a_file_is_named_after_its_prompt_and_seed(prompt, plain, full):
    assert file_names(GenerationRequest(prompt=prompt, seed=7)) == (plain, full)


def test_the_disposition_header_is_plain_ascii():
    header = content_disposition(GenerationRequest(prompt="猫 on a mat", seed=7))

    assert header.isascii()
    assert header.startswith("inline; filename=\"on-a-mat-7.png\"; filename*=UTF-8''%E7%8C%AB-on")
