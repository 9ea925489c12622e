"""From a picture or an error to the bytes that leave.

The toolkit labels the answer with the Accept header's text, verbatim, so only media types that name
one format are answered; an error is JSON in any case.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

from easel.errors import EaselError, InvalidRequest
from easel.generator import Picture
from easel.output.png import encode_png
from easel.serving.request import media_type
from generation import GenerationRequest

_JSON = {"", "*/*", "application/json"}
_IMAGES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}


def check_accept(accept: str | None, request: GenerationRequest) -> None:
    """Refuse an Accept header that cannot be answered, or that is not the request's format.

    Raises:
        InvalidRequest: naming `Accept` or `format`.
    """
    wanted = media_type(accept or "")
    if wanted in _JSON:
        return
    if wanted not in _IMAGES:
        raise InvalidRequest(
            f"Accept must be application/json or one of {', '.join(_IMAGES)}.", "Accept"
        )
    if _IMAGES[wanted] != request.format:
        raise InvalidRequest(f"format: is {request.format}, but Accept is {wanted}", "format")


def encode_answer(picture: Picture | Mapping[str, object], accept: str | None) -> bytes | str:
    """Return the picture's file, or JSON that holds it in base64 where JSON is accepted.

    A description is JSON in any case.

    Raises:
        InvalidRequest: as `check_accept`.
    """
    if not isinstance(picture, Picture):
        return json.dumps(picture)
    request = picture.provenance.request
    check_accept(accept, request)
    file = encode_file(picture)
    if media_type(accept or "") in _IMAGES:
        return file
    return json.dumps(
        {
            "image": base64.b64encode(file).decode("ascii"),
            "format": request.format,
            "request": request.to_dict(),
        }
    )


def encode_file(picture: Picture) -> bytes:
    """Return the picture as a file of the format that its request names."""
    provenance, kind = picture.provenance, picture.provenance.request.format
    if kind == "png":
        return encode_png(picture.pixels, provenance.text() if picture.metadata else None)
    options: dict[str, Any] = {"exif": provenance.exif()} if picture.metadata else {}
    # WebP at 90 looks the same at an eighth of a PNG's size, which is what it is asked for; who
    # wants every pixel has PNG. JPEG without thinned-out colours: prompts ask for red on blue.
    options |= {"quality": 90} if kind == "webp" else {"quality": 95, "subsampling": "4:4:4"}
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def encode_error(error: EaselError, context: Any) -> str:
    """Return the error's body, with its status set on the toolkit's context if there is one."""
    set_status = getattr(context, "set_response_status", None)
    if set_status is not None:
        set_status(code=error.status, phrase=error.phrase, idx=0)
    return json.dumps(error.to_dict())
