"""Pictures as bytes: their format and size, and whether they are complete."""

from __future__ import annotations

from chalicelib.errors import BadPicture
from chalicelib.picture_files import is_whole

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}

# Lambda returns at most 6,291,556 bytes, in which a picture is base64 (4 bytes for 3) next to
# headers of up to 10,240 bytes. https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
LARGEST_PICTURE = (6_291_556 - 12_000) // 4 * 3


def check_picture(body: bytes, format: str) -> None:  # noqa: A002 (the contract's word)
    """Check that `body` is one complete picture in that format, without decoding it.

    Raises:
        BadPicture: if it is anything else, or ends early.
    """
    if not is_whole(body, format):
        raise BadPicture(f"The model's response was not a complete {format.upper()} picture.")
