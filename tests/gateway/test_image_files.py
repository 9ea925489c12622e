"""Pictures as bytes."""

import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from chalicelib.errors import BadPicture
from chalicelib.image_files import check_picture, compressed

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


def plain_png(**options):
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").convert("RGB")
    image.save(buffer, "png", compress_level=0, **options)
    return buffer.getvalue()


def test_compressing_keeps_the_pixels_and_all_other_chunks():
    text = PngInfo()
    text.add_text("parameters", "a cat")
    body = plain_png(pnginfo=text, dpi=(72, 72))

    small = compressed(body)
    before, after = Image.open(io.BytesIO(body)), Image.open(io.BytesIO(small))

    check_picture(small, "png")
    assert len(small) < len(body) / 10
    assert before.tobytes() == after.tobytes()
    assert before.info == after.info


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_are_not_compressed(format):
    assert compressed(picture(format)) == picture(format)


def test_what_is_compressed_well_or_damaged_stays_as_it_is():
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "png", compress_level=9)
    damaged = plain_png().replace(b"IDATx\x01", b"IDATy\x01", 1)

    for body in (buffer.getvalue(), damaged, plain_png()[:-1], b""):
        assert compressed(body) == body
