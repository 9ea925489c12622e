"""A PNG encoder for pictures like those that diffusion models paint: grainy, without flat areas.

Pillow tries PNG's five filters on every row and lets zlib search for repetitions. Neither helps a
photograph much and both are slow, so this encoder always uses the Average filter and lets zlib look
for runs alone (Z_RLE) before it Huffman-codes. `tests/benchmarks/png_encoding.py` compares: 7 to 20
times as fast, with 4 to 14 % fewer bytes. Beside it were tried: Up and Sub, as fast, with 4 to 14 %
more bytes than Average; Paeth, half as fast in numpy, better on smooth pictures alone; and Huffman
coding without runs, a little faster, which gives flat areas a whole bit per byte.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AVERAGE = 3
_RGB = 3


def encode_png(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """Return a PNG file of RGB pixels, shaped (height, width, 3), 8 bits per channel.

    Args:
        pixels: the picture; any memory layout.
        text: keywords (1 to 79 characters of ASCII) and their texts, written as iTXt chunks, which
            hold UTF-8 where tEXt holds Latin-1 only.

    Raises:
        ValueError: for any other shape or type, or an empty picture.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != _RGB or not pixels.size:
        raise ValueError("pixels must be 8-bit RGB, shaped (height, width, 3)")
    height, width, _ = pixels.shape
    # 8 bits per channel, colour type 2 (RGB), then compression, filter and interlace method 0.
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header)]
    chunks += [_chunk(b"iTXt", _international(*each)) for each in (text or {}).items()]
    chunks += [_chunk(b"IDAT", _deflate(_filter(pixels))), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(chunks)


def _filter(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the rows under the Average filter (PNG specification, section 9.2).

    Each byte becomes its difference from the average of the bytes to its left and above, which
    count as 0 outside the picture. `(a & b) + ((a ^ b) >> 1)` is that average without a ninth bit.
    """
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    left, above = np.zeros_like(rows), np.zeros_like(rows)
    left[:, channels:] = rows[:, :-channels]
    above[1:] = rows[:-1]
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = _AVERAGE
    np.subtract(rows, (left & above) + ((left ^ above) >> 1), out=filtered[:, 1:])
    return filtered


def _deflate(filtered: NDArray[np.uint8]) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return packer.compress(filtered.data) + packer.flush()


def _international(keyword: str, text: str) -> bytes:
    # Keyword, end, not compressed, compression method, no language, no translated keyword, text.
    return keyword.encode("ascii") + b"\0\0\0\0\0" + text.encode("utf-8")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
