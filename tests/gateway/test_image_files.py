"""Pictures as bytes."""

import io

import pytest
from PIL import Image

from chalicelib.errors import BadPicture
from chalicelib.image_files import check_picture

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
