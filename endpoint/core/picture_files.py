"""Whether a file is one complete picture of its format, without decoding it.

The scripts and the gateway have the same file.
"""

from __future__ import annotations

_PNG_START = b"\x89PNG\r\n\x1a\n"
# The last chunk has no data, so its 12 bytes are constant: https://www.w3.org/TR/png-3/#11IEND
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def is_whole(body: bytes, file_format: str) -> bool:
    """Whether `body` is one complete picture.

    Args:
        body: the file.
        file_format: png, webp or jpeg.
    """
    return _WHOLE[file_format](body)


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
