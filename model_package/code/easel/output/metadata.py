"""Prompt and parameters in the image file, in the format of AUTOMATIC1111's web UI.

A PNG has them in the text chunk `parameters`, a WebP or JPEG in Exif's UserComment; readers such as
sd-parsers support both. The file also has the request as JSON, from which Easel can generate the
same image again: in the text chunk `easel`, or in Exif's ImageDescription.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from PIL import ExifTags, Image

from generation import GenerationRequest

_EXIF_IFD = ExifTags.IFD.Exif
_USER_COMMENT = ExifTags.Base.UserComment
_IMAGE_DESCRIPTION = ExifTags.Base.ImageDescription
_UNDEFINED = 7
_SOFTWARE = ExifTags.Base.Software


@dataclass(frozen=True)
class Provenance:
    """How an image was made.

    Attributes:
        request: the completed request.
        sampler: A1111's name for the scheduler.
        schedule: A1111's name for the spacing of the noise levels; None for the usual one.
        model: the model's name; None if it has none.
        software: the library that generated it, with its version.
        refiner_start: the share of the steps after which a refiner took over; None without one.
        painted: the size at which the model painted it before it was scaled up; None if it was not.
        batch: the size of the batches in which it was painted; None if it was painted alone.
    """

    request: GenerationRequest
    sampler: str
    schedule: str | None
    model: str | None
    software: str
    refiner_start: float | None = None
    painted: str | None = None
    batch: int | None = None

    def parameters(self) -> str:
        """Return A1111's text: prompt, negative prompt and one line of parameters."""
        request = self.request
        lines = [" ".join([request.prompt, *_lora_tags(request.lora)])]
        if request.negative_prompt:
            lines.append(f"Negative prompt: {request.negative_prompt}")
        lines.append(", ".join(f"{key}: {value}" for key, value in self._pairs()))
        return "\n".join(lines)

    def text(self) -> dict[str, str]:
        """Return a PNG's text chunks by keyword."""
        return {"parameters": self.parameters(), "easel": self._json(ascii_only=False)}

    def exif(self) -> bytes:
        """Return an Exif block for a WebP or JPEG."""
        exif = Image.Exif()
        # Exif: eight bytes name the encoding. A1111's readers expect big-endian UTF-16.
        comment = b"UNICODE\0" + self.parameters().encode("utf-16-be")
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = comment
        exif[_IMAGE_DESCRIPTION] = self._json(ascii_only=True)  # the field is ASCII
        exif[_SOFTWARE] = "Easel"
        return _undefined_comment(exif.tobytes())

    def _json(self, *, ascii_only: bool) -> str:
        return json.dumps(self.request.to_dict(), ensure_ascii=ascii_only)

    def _pairs(self) -> list[tuple[str, str]]:
        request = self.request
        guidance = request.guidance_scale
        pairs = [
            ("Steps", request.steps),
            ("Sampler", self.sampler),
            ("Schedule type", self.schedule),
            ("CFG scale", None if guidance is None else f"{guidance:g}"),
            ("Seed", request.seed),
            ("Size", f"{request.width}x{request.height}"),
            ("Painted size", self.painted),
            ("Model", self.model),
            ("Refiner switch at", self.refiner_start),  # A1111's key for the same share
            ("Batch", self.batch),
            ("Version", self.software),
        ]
        return [(key, _quoted(str(value))) for key, value in pairs if value is not None]


def _undefined_comment(block: bytes) -> bytes:
    """Return an Exif block whose UserComment has the type of the standard, UNDEFINED.

    Pillow writes bytes as BYTE, which the web UI's own reader cannot decode, and has no public way
    to choose the type. Both types take a byte for each value, so no other place changes.
    """
    start = len(b"Exif\0\0")
    order = "<" if block[start:].startswith(b"II") else ">"
    fields = bytearray(block)

    def entries(place: int) -> dict[int, int]:
        (count,) = struct.unpack_from(f"{order}H", fields, start + place)
        places = [start + place + 2 + 12 * number for number in range(count)]
        return {struct.unpack_from(f"{order}H", fields, each)[0]: each for each in places}

    (first,) = struct.unpack_from(f"{order}I", fields, start + 4)
    (inner,) = struct.unpack_from(f"{order}I", fields, entries(first)[_EXIF_IFD] + 8)
    struct.pack_into(f"{order}H", fields, entries(inner)[_USER_COMMENT] + 2, _UNDEFINED)
    return bytes(fields)


def _lora_tags(lora: str) -> list[str]:
    """Return the adapters as the web UI writes them at the end of the prompt."""
    return [f"<lora:{adapter}>" for adapter in lora.split(",") if adapter]


def _quoted(value: str) -> str:
    """Quote as A1111 does, so that a comma or colon does not end the value."""
    return json.dumps(value, ensure_ascii=False) if set(value) & set(",:\n") else value
