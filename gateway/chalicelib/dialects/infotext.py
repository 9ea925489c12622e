"""How a picture was made, in the format of AUTOMATIC1111's web UI: read from its file, or composed.

The text has the prompt, the negative prompt, and one line of parameters. The container writes it
into every PNG unless that is switched off, and only it knows the sampler and the model's defaults.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator

from chalicelib.generation import GenerationRequest

_PNG_START = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"parameters"


def infotext(picture: bytes, request: GenerationRequest) -> str:
    """Return the text in the picture's file, or else the one composed of the request alone."""
    return _written(picture) or composed(request)


def composed(request: GenerationRequest) -> str:
    """Return the text of a request; fields that it leaves to the model are missing."""
    size = f"{request.width}x{request.height}" if request.width and request.height else None
    guidance = request.guidance_scale
    pairs = [
        ("Steps", request.steps),
        ("CFG scale", None if guidance is None else f"{guidance:g}"),
        ("Seed", request.seed),
        ("Size", size),
        ("Model", request.model),
    ]
    lines = [" ".join([request.prompt, *lora_tags(request.lora)])]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(", ".join(f"{name}: {value}" for name, value in pairs if value is not None))
    return "\n".join(lines)


def setting(text: str, name: str) -> str | None:
    """Return one value of the text's line of parameters, such as `Steps`; None if it has none."""
    line = text.rpartition("\n")[2]
    match = re.search(rf'(?:^|, ){re.escape(name)}: ("(?:[^"\\]|\\.)*"|[^,]*)', line)
    if match is None:
        return None
    value = match[1]
    return str(json.loads(value)) if value.startswith('"') else value


def size_of(picture: bytes) -> tuple[int, int] | None:
    """Return a PNG's width and height in pixels; None for another file."""
    if not picture.startswith(_PNG_START) or len(picture) < 24:
        return None
    # IHDR is always the first chunk: https://www.w3.org/TR/png-3/#11IHDR
    width, height = struct.unpack_from(">II", picture, 16)
    return width, height


def lora_tags(lora: str) -> list[str]:
    """Return adapters as the web UI names them in a prompt."""
    return [f"<lora:{adapter}>" for adapter in lora.split(",") if adapter]


def _written(picture: bytes) -> str | None:
    for kind, data in _chunks(picture):
        keyword, _, rest = data.partition(b"\0")
        if keyword == _KEYWORD and kind == b"tEXt":
            # https://www.w3.org/TR/png-3/#11tEXt
            return rest.decode("latin-1")
        # Not compressed; after the language and the translated keyword.
        if keyword == _KEYWORD and kind == b"iTXt" and rest.startswith(b"\0"):
            return rest[2:].split(b"\0", 2)[-1].decode("utf-8", "replace")
    return None


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Go through a PNG's chunks up to its pixels."""
    if not picture.startswith(_PNG_START):
        return
    place = len(_PNG_START)
    while place + 8 <= len(picture):
        length, kind = struct.unpack_from(">I4s", picture, place)
        if kind in {b"IDAT", b"IEND"}:
            return
        yield kind, picture[place + 8 : place + 8 + length]
        # Length, type and CRC have 4 bytes each: https://www.w3.org/TR/png-3/#5Chunk-layout
        place += length + 12
