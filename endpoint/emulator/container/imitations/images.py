"""Where an imitation gets its images: from a function, or from an Easel model server."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import urllib3
from PIL import Image


@dataclass(frozen=True)
class ImageRequest:
    """What a container's pipeline is called with; None leaves a value to the model.

    Attributes:
        steps: inference steps, the container's own default included.
        width, height: in pixels.
        lora: the adapter's path in the container and its weight.
    """

    prompt: str
    steps: int
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    lora: tuple[str, float] | None = None


# Raises whatever a pipeline raises.
Generate = Callable[[ImageRequest], Image.Image]


class ServerFailed(RuntimeError):
    """The model server behind an imitation has not made an image; the message is its body."""


def from_server(url: str) -> Generate:
    """Return a function that has an Easel model server make the images."""

    def generate(request: ImageRequest) -> Image.Image:
        answer = urllib3.request(
            "POST",
            f"{url.rstrip('/')}/invocations",
            body=json.dumps(_fields(request)).encode(),
            headers={"Content-Type": "application/json", "Accept": "image/png"},
            retries=False,
            timeout=300.0,
        )
        if answer.status != 200:
            raise ServerFailed(answer.data.decode("utf-8", "replace"))
        image = Image.open(io.BytesIO(answer.data))
        # A file's text chunks would otherwise be saved again.
        return image.convert("RGB")

    return generate


def _fields(request: ImageRequest) -> dict[str, Any]:
    """Return the request in the fields of Easel's own container."""
    lora = None
    if request.lora is not None:
        path, weight = request.lora
        lora = f"{PurePosixPath(path).stem}:{weight:g}"
    fields = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "seed": request.seed,
        "lora": lora,
    }
    return {name: value for name, value in fields.items() if value is not None}


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """Return the image as a file; options are Pillow's."""
    out = io.BytesIO()
    image.save(out, format=file_format, **options)
    return out.getvalue()
