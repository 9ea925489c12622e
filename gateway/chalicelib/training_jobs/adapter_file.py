"""Check the file that a job leaves before it is published.

The job decodes pictures of strangers, so that its output is not trusted: the file must be a
safetensors file with kohya's names, complete layers and finite numbers. It is read once, in pieces.
The format: eight bytes with the length of the header, the header in JSON, and the tensors without
gaps (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

LARGEST = 200_000_000  # bytes; SDXL at rank 16 has 85 MB
_LARGEST_HEADER = 4_000_000  # bytes; SDXL with convolutions has about 400 kB
_PIECE = 1 << 20
_KEY = re.compile(
    r"(lora_(?:unet|te|te1|te2)_[a-z0-9_]{1,180})\.(lora_down\.weight|lora_up\.weight|alpha)"
)
_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
# The highest byte of a number that is not finite, without its sign; for BF16 and F32 these include
# finite ones above 1.7e38, which no adapter has.
_INFINITE = {
    "F16": bytes(byte for byte in range(256) if byte & 0x7C == 0x7C),
    "BF16": b"\x7f\xff",
    "F32": b"\x7f\xff",
}
_FINITE = {
    dtype: bytes(byte for byte in range(256) if byte not in infinite)
    for dtype, infinite in _INFINITE.items()
}


class Readable(Protocol):
    """An open file, or the body of an object in S3."""

    def read(self, amount: int, /) -> bytes: ...


class AdapterUnusable(Exception):
    """The file cannot be published; the text is a sentence."""


@dataclass(frozen=True)
class AdapterFile:
    """What the file contains.

    Attributes:
        layers: how many it changes.
        rank: the largest of its layers.
        metadata: texts by name.
    """

    layers: int
    rank: int
    metadata: Mapping[str, str]


def check(file: Readable, size: int) -> AdapterFile:
    """Read a file to its end and return what it contains.

    Args:
        file: at its beginning.
        size: in bytes.

    Raises:
        AdapterUnusable: with a sentence on the first fault.
    """
    if size > LARGEST:
        raise AdapterUnusable(f"The adapter has {size:,} bytes; at most {LARGEST:,} are allowed.")
    header, length = _read_header(file, size)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(text, str) for text in metadata.values()
    ):
        raise AdapterUnusable("The adapter's metadata is not text.")
    end, tensors = 0, sorted((_place(key, entry), key) for key, entry in header.items())
    for (begin, stop), key in tensors:
        if begin != end:
            raise AdapterUnusable("The adapter's tensors do not follow one another.")
        _check_finite(file, stop - begin, header[key]["dtype"], key)
        end = stop
    if 8 + length + end != size or file.read(1):
        raise AdapterUnusable("The adapter's file has another size than its header says.")
    layers = _layers(header)
    return AdapterFile(len(layers), max(layers.values()), metadata)


def _read_header(file: Readable, size: int) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(_exactly(file, 8), "little") if size >= 8 else 0
    if not 0 < length <= min(size - 8, _LARGEST_HEADER):
        raise AdapterUnusable("The adapter is not a safetensors file.")
    try:
        header = json.loads(_exactly(file, length).decode())
    except (ValueError, RecursionError) as error:
        raise AdapterUnusable("The adapter's header is not JSON.") from error
    if not isinstance(header, dict):
        raise AdapterUnusable("The adapter's header is not a JSON object.")
    return header, length


def _place(key: str, entry: Any) -> tuple[int, int]:
    """Return where a tensor begins and ends."""
    try:
        begin, end = entry["data_offsets"]
        shape, width = entry["shape"], _BYTES[entry["dtype"]]
        whole = {type(number) for number in (begin, end, *shape)} <= {int}
        fits = whole and min([begin, *shape]) >= 0 and end - begin == math.prod(shape) * width
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterUnusable(f"The adapter's header is damaged at {key[:80]!r}.") from error
    if not fits or not _KEY.fullmatch(key):
        raise AdapterUnusable(f"The adapter's header is damaged at {key[:80]!r}.")
    return begin, end


def _check_finite(file: Readable, length: int, dtype: str, key: str) -> None:
    width = _BYTES[dtype]
    while length:
        piece = _exactly(file, min(length, _PIECE))
        # Little-endian: the last byte of a number has its sign and its exponent.
        if piece[width - 1 :: width].translate(None, _FINITE[dtype]):
            raise AdapterUnusable(f"The adapter has numbers that are not finite, in {key[:80]!r}.")
        length -= len(piece)


def _layers(header: Mapping[str, Any]) -> dict[str, int]:
    """Return the rank of each layer."""
    parts: dict[str, dict[str, list[int]]] = {}
    for key, entry in header.items():
        match = _KEY.fullmatch(key)
        if match:  # all do
            parts.setdefault(match[1], {})[match[2]] = entry["shape"]
    if not parts:
        raise AdapterUnusable("The adapter has no layers.")
    ranks = {}
    for name, shapes in parts.items():
        down, up = shapes.get("lora_down.weight", []), shapes.get("lora_up.weight", [])
        if len(down) not in (2, 4) or len(up) != len(down) or down[0] != up[1] or down[0] == 0:
            raise AdapterUnusable(f"The adapter's layer {name[:80]!r} is not complete.")
        if shapes.get("alpha") != []:
            raise AdapterUnusable(f"The adapter's layer {name[:80]!r} has no alpha.")
        ranks[name] = down[0]
    return ranks


def _exactly(file: Readable, length: int) -> bytes:
    """Return as many bytes; a network's stream may return fewer at a time."""
    content = bytearray()
    while len(content) < length:
        piece = file.read(length - len(content))
        if not piece:
            raise AdapterUnusable("The adapter's file is cut short.")
        content += piece
    return bytes(content)
