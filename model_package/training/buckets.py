"""Aspect buckets: pictures of about the same shape are trained together, without distortion.

All buckets have about the same area. NovelAI described the method:
https://blog.novelai.net/novelai-improvements-on-stable-diffusion-e10d38db82ac
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

_LONGEST_SHAPE = 2  # a side of a bucket is at most this many times the resolution


@dataclass(frozen=True)
class Fitted:
    """A picture cut to its bucket, and what SDXL is told about the cut, in pixels.

    Attributes:
        image: width and height are those of the bucket.
        original: height and width before.
        top_left: of the part that remains, in the scaled picture.
    """

    image: Image.Image
    original: tuple[int, int]
    top_left: tuple[int, int]


def bucket_step(resolution: int) -> int:
    """Return the pixels of which a bucket's sides are multiples, as UNets of that size need."""
    return 64 if resolution >= 512 else 32


def buckets(resolution: int) -> list[tuple[int, int]]:
    """Return the sizes, width and height, with an area of at most `resolution` squared."""
    step = bucket_step(resolution)
    area = resolution**2
    sides = range(step, _LONGEST_SHAPE * resolution + 1, step)
    sizes = {(side, area // side // step * step) for side in sides}
    least = max(step, resolution // _LONGEST_SHAPE // step * step)
    sizes = {size for size in sizes if min(size) >= least}
    return sorted({*sizes, *(size[::-1] for size in sizes), _square(resolution)})


def choose_bucket(
    size: tuple[int, int], resolution: int, *, shapes: bool = True, upscale: bool = True
) -> tuple[int, int]:
    """Return the bucket of a picture.

    Args:
        size: the picture's width and height in pixels.
        resolution: the side of the square of a bucket's area.
        shapes: False for the square alone.
        upscale: False for a bucket of its own size if the picture is smaller than any.
    """
    width, height = size
    choices = buckets(resolution) if shapes else [_square(resolution)]
    wanted = math.log(width / height)
    bucket = min(choices, key=lambda one: (abs(math.log(one[0] / one[1]) - wanted), -one[0]))
    if upscale or (width >= bucket[0] and height >= bucket[1]):
        return bucket
    step = bucket_step(resolution)
    own = max(width // step * step, step), max(height // step * step, step)
    own = min(own[0], bucket[0]), min(own[1], bucket[1])
    return own if shapes else (min(own), min(own))


def fit(image: Image.Image, bucket: tuple[int, int]) -> Fitted:
    """Scale a picture to cover its bucket, and cut off what is outside, equally on both sides."""
    scale = max(bucket[0] / image.width, bucket[1] / image.height)
    width = max(round(image.width * scale), bucket[0])
    height = max(round(image.height * scale), bucket[1])
    left, top = (width - bucket[0]) // 2, (height - bucket[1]) // 2
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    cut = scaled.crop((left, top, left + bucket[0], top + bucket[1]))
    return Fitted(cut, (image.height, image.width), (top, left))


def _square(resolution: int) -> tuple[int, int]:
    step = bucket_step(resolution)
    side = max(resolution // step * step, step)
    return side, side
