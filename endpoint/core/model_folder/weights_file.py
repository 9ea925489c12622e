"""Whether a file in the safetensors format is complete, from its first bytes and its length.

The format: eight bytes with the length of the header, the header (JSON: type, shape and place of
each tensor), and the tensors without gaps (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

_LONGEST_HEADER = 100_000_000  # the limit of the safetensors library
# Bits of one number.
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
# What transformers accepts as the origin of a file that names one.
_FORMATS = {"pt", "tf", "flax", "mlx"}
AGAIN = "download it again"
_POINTER = b"version https://git-lfs"
# What files begin with that are often found under the name of another kind.
_BEGINNINGS = {
    _POINTER: ("is a Git LFS pointer, not the file itself", "run `git lfs pull` in its folder"),
    b"<": ("is a web page", "download the file itself, signed in if its page requires that"),
    b"PK\x03\x04": ("is a pickled or packed file under another name", "download the safetensors"),
    b"\x80\x02": ("is a pickled file under another name", "download the safetensors file instead"),
    b"GGUF": ("is a GGUF file under another name", "download the safetensors file instead"),
}


class WeightsUnusable(Exception):
    """A file cannot be read as weights.

    Attributes:
        advice: what to do about it.
    """

    def __init__(self, finding: str, advice: str = AGAIN) -> None:
        super().__init__(finding)
        self.advice = advice


def check_kind(path: Path) -> None:
    """Refuse files that are plainly something else, such as Git LFS pointers.

    Raises:
        WeightsUnusable: if it is one.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        beginning = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    for sign, (finding, advice) in _BEGINNINGS.items():
        if beginning.startswith(sign):
            raise WeightsUnusable(finding, advice)


def check_gguf(path: Path) -> None:
    """Refuse a file that is not in the GGUF format; raises as `check_kind`.

    The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        check_kind(path)
        raise WeightsUnusable("is not a GGUF file", "download the GGUF file itself")


def check_weights(path: Path, *, formats: bool = False) -> None:
    """Refuse a file that the safetensors library would not open, or only with random contents.

    Args:
        path: the file; only its header is read.
        formats: also refuse an origin that transformers does not accept.

    Raises:
        WeightsUnusable: if it would not.
        OSError: if it cannot be read.
    """
    check_kind(path)
    size = path.stat().st_size
    header, begin = _read_header(path, size)
    metadata = header.pop("__metadata__", None)
    _check_metadata(metadata, formats=formats)
    end = 0
    for place, stop, expected in sorted(_place(name, entry) for name, entry in header.items()):
        if place != end or stop - place != expected:
            raise WeightsUnusable("has a damaged header: its tensors do not follow one another")
        end = stop
    if size != begin + end:
        raise WeightsUnusable(
            f"has {size:,} bytes of {begin + end:,}: it is "
            + ("cut short" if size < begin + end else "too long")
        )


def _read_header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """Return the header, and the position after it."""
    if size == 0:
        raise WeightsUnusable("is empty")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > _LONGEST_HEADER:
            raise WeightsUnusable("has no safetensors header")
        if size < 8 + length:
            raise WeightsUnusable(f"has {size:,} bytes of at least {8 + length:,}: it is cut short")
        text = file.read(length)
    try:
        header = json.loads(text.decode("utf-8"), parse_constant=_refuse)
        if isinstance(header, dict) and text.startswith(b"{"):
            # A lone half of a surrogate pair is JSON to Python alone.
            "".join(header).encode()
            return header, 8 + length
    except (ValueError, RecursionError) as error:
        raise WeightsUnusable("has no readable safetensors header") from error
    raise WeightsUnusable("has no safetensors header")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _check_metadata(metadata: Any, *, formats: bool) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise WeightsUnusable("has a damaged header: its metadata is not text")
    if formats and metadata.get("format") not in _FORMATS:
        raise WeightsUnusable(
            "does not say in its metadata that it is PyTorch's, which transformers requires",
            'write it again with the metadata {"format": "pt"}',
        )


def _place(name: str, entry: Any) -> tuple[int, int, int]:
    """Return where a tensor begins and ends, and how long its type and shape make it."""
    try:
        begin, end = entry["data_offsets"]
        shape, bits = entry["shape"], _BITS[entry["dtype"]]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsUnusable(f"has a damaged header at {name[:80]}") from error
    # bool is a kind of int to Python, but not to the library.
    if not isinstance(shape, list) or {type(n) for n in (begin, end, *shape)} != {int}:
        raise WeightsUnusable(f"has a damaged header at {name[:80]}")
    values = math.prod(shape) * bits
    if min(begin, end, *shape, 0) < 0 or values % 8:
        raise WeightsUnusable(f"has a damaged header at {name[:80]}")
    return begin, end, values // 8
