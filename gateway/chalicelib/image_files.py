"""Pictures as bytes: their format and size, and whether they are complete."""

from __future__ import annotations

from chalicelib.errors import BadPicture

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}

# Lambda returns at most 6,291,556 bytes, in which a picture is base64 (4 bytes for 3) next to
# headers of up to 10,240 bytes. https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
LARGEST_PICTURE = (6_291_556 - 12_000) // 4 * 3

_PNG_START = b"\x89PNG\r\n\x1a\n"
# The last chunk has no data, so its 12 bytes are constant: https://www.w3.org/TR/png-3/#11IEND
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def check_picture(body: bytes, format: str) -> None:  # noqa: A002 (the contract's word)
    """Check that `body` is one complete picture in that format, without decoding it.

    Raises:
        BadPicture: if it is anything else, or ends early.
    """
    if not _WHOLE[format](body):
        raise BadPicture(f"The model's response was not a complete {format.upper()} picture.")


def _whole_png(body: bytes) -> bool:
    return body.startswith(_PNG_START) and body.endswith(_PNG_END)


def _whole_jpeg(body: bytes) -> bool:
    # The markers SOI and EOI: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1.
    return body.startswith(b"\xff\xd8\xff") and body.endswith(b"\xff\xd9")


def _whole_webp(body: bytes) -> bool:
    # The length excludes the 8 bytes up to its own end:
    # https://developers.google.com/speed/webp/docs/riff_container
    length = int.from_bytes(body[4:8], "little")
    return body[:4] == b"RIFF" and body[8:12] == b"WEBP" and len(body) == length + 8


_WHOLE = {"png": _whole_png, "jpeg": _whole_jpeg, "webp": _whole_webp}
