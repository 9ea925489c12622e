"""From an image or an error to the response body.

The toolkit copies the Accept header into the response's Content-Type. So only media types that name
one format are accepted; an error is always JSON.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

from easel.errors import AdaptersUnavailable, EaselError, InvalidRequest
from easel.generator import GeneratedImage
from easel.output.png import encode_png
from easel.serving.request import media_type
from generation import GenerationRequest

_JSON = {"", "*/*", "application/json"}
_IMAGES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}


def check_accept(accept: str | None, request: GenerationRequest) -> None:
    """Refuse an unsupported Accept header, or one that is not the request's format.

    Raises:
        InvalidRequest: naming `Accept` or `format`.
    """
    accepted = media_type(accept or "")
    if accepted in _JSON:
        return
    if accepted not in _IMAGES:
        raise InvalidRequest(
            f"Accept must be application/json or one of {', '.join(_IMAGES)}.", "Accept"
        )
    if _IMAGES[accepted] != request.file_format:
        raise InvalidRequest(
            f"format: is {request.file_format}, but Accept is {accepted}", "format"
        )


def encode_response(
    result: GeneratedImage | Mapping[str, object], accept: str | None
) -> bytes | str:
    """Return the image file, or JSON with the file in base64 if Accept is JSON.

    A description is always JSON.

    Raises:
        InvalidRequest: as `check_accept`.
    """
    if not isinstance(result, GeneratedImage):
        return json.dumps(result)
    request = result.provenance.request
    check_accept(accept, request)
    file = encode_file(result)
    if media_type(accept or "") in _IMAGES:
        return file
    return json.dumps(
        {
            "image": base64.b64encode(file).decode("ascii"),
            "format": request.file_format,
            "request": request.to_dict(),
        }
    )


def encode_file(image: GeneratedImage) -> bytes:
    """Return the image as a file of the request's format."""
    provenance, kind = image.provenance, image.provenance.request.file_format
    if kind == "png":
        return encode_png(image.pixels, provenance.text() if image.metadata else None)
    options: dict[str, Any] = {"exif": provenance.exif()} if image.metadata else {}
    # WebP at 90 looks the same at an eighth of a PNG's size; PNG is there for exact pixels. JPEG
    # without chroma subsampling, which blurs the edges of strong colours such as red on blue.
    options |= {"quality": 90} if kind == "webp" else {"quality": 95, "subsampling": "4:4:4"}
    buffer = io.BytesIO()
    Image.fromarray(image.pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def encode_error(error: EaselError, context: Any) -> str:
    """Return the error's body, and set its status on the toolkit's context if there is one."""
    set_status = getattr(context, "set_response_status", None)
    if set_status is not None:
        set_status(code=error.status, phrase=error.phrase, idx=0)
    if isinstance(error, AdaptersUnavailable) and hasattr(context, "set_response_header"):
        context.set_response_header(0, "Retry-After", str(error.retry_after))
    return json.dumps(error.to_dict())
