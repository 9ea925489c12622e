"""Decode pictures in a child process, because files from strangers can attack their decoder.

The child runs this file as a script. It has limits on memory and processor time, reads three
formats only, and returns plain bytes, so nothing it does to itself reaches the trainer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 40_000_000
LARGEST_FILE = 50_000_000  # bytes
MEMORY = 2 * 2**30  # bytes of address space; 40 million pixels take 160 MB in RGBA
SECONDS = 30  # of processor time for each picture


class PictureUnusable(Exception):
    """A picture cannot be used; the text is the reason in a few words."""


@dataclass(frozen=True)
class Decoded:
    """A picture: upright, without transparency; and what was special about its file."""

    image: Image.Image
    note: str = ""


def decode_all(paths: Iterable[Path]) -> Iterator[Decoded]:
    """Yield the pictures in their order.

    Raises:
        PictureUnusable: naming the first file that is no picture or exceeds a limit.
    """
    paths = list(paths)
    if not paths:
        return
    command = [sys.executable, "-I", str(Path(__file__).resolve())]
    with subprocess.Popen(  # noqa: S603 - our own file
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}
    ) as child:
        try:
            for path in paths:
                yield _ask(child, path)
        finally:
            child.kill()


def _ask(child: subprocess.Popen[bytes], path: Path) -> Decoded:
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - pipes
    answer = b""
    with suppress(BrokenPipeError):
        child.stdin.write(json.dumps(str(path)).encode() + b"\n")
        child.stdin.flush()
        answer = child.stdout.readline()
    died = PictureUnusable(f"{path.name} takes more memory or time to decode than is allowed")
    if not answer:
        raise died
    header = json.loads(answer)
    if "error" in header:
        raise PictureUnusable(f"{path.name} {header['error']}")
    size = header["width"], header["height"]
    pixels = child.stdout.read(3 * size[0] * size[1])
    if len(pixels) < 3 * size[0] * size[1]:
        raise died
    return Decoded(Image.frombytes("RGB", size, pixels), header["note"])


# The child's side


def _decode(path: Path) -> tuple[Image.Image, str]:
    """Return an upright RGB picture and a note on its file."""
    if path.stat().st_size > LARGEST_FILE:
        raise PictureUnusable(f"is larger than {LARGEST_FILE // 1_000_000} MB")
    # Without `formats`, Pillow would start Ghostscript for a file that begins like PostScript.
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise PictureUnusable(f"has more than {MOST_PIXELS // 1_000_000} million pixels")
        frames = getattr(image, "n_frames", 1)
        image.load()
        note = f"only the first of {frames} frames is used" if frames > 1 else ""
        return _rgb(ImageOps.exif_transpose(image)), note


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: `convert` would clip it to white
        # (grey + 128) // 257; half a unit more, so that no quotient is just below a whole number.
        grey = image.convert("I").point(lambda value: value * (1 / 257) + 128.5 / 257)
        return grey.convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        # Transparent pixels have a colour of their own, which `convert` would show.
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _limit(resource: Any) -> None:
    """Allow SECONDS of processor time from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each path with a header, and the pixels after it."""
    import resource  # not on Windows, where the rest of this file is imported

    with suppress(ValueError, OSError):  # macOS has no limit of address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    for request in requests:
        _limit(resource)
        try:
            image, note = _decode(Path(json.loads(request)))
        except PictureUnusable as error:
            header: dict[str, object] = {"error": str(error)}
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            header = {"error": f"has more than {MOST_PIXELS // 1_000_000} million pixels"}
        except Exception:  # noqa: BLE001 - decoders raise whatever a file makes them raise
            header = {"error": "cannot be decoded as a PNG, JPEG or WebP picture"}
        else:
            header = {"width": image.width, "height": image.height, "note": note}
        answers.write(json.dumps(header).encode() + b"\n")
        if "error" not in header:
            answers.write(image.tobytes())
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
