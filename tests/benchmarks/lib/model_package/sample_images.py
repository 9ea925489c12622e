"""Images of noise that compress like a diffusion model's output; always the same.

Brightness and colour vary on every scale with amplitudes that fall with the scale (octaves of
smooth noise), with hard edges of flat discs and fine grain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class ImageKind:
    """A kind of image; `falloff` is each octave's amplitude relative to the one before."""

    name: str
    falloff: float
    grain: float  # standard deviation, of 255


IMAGE_KINDS = (
    ImageKind("smooth illustration", falloff=0.45, grain=0.5),
    ImageKind("photograph", falloff=0.55, grain=1.5),
    ImageKind("noisy photograph", falloff=0.6, grain=4.0),
)


def draw(kind: ImageKind, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return `size` by `size` pixels; the same arguments return the same pixels."""
    random = np.random.default_rng(seed)
    canvas = np.full((size, size, 3), 128.0)
    cells, amplitude = 3, 60.0
    while cells <= size // 2:
        noise = _smooth_noise(random, cells, size)
        # Mostly brightness: natural colours vary less than light.
        brightness = noise.mean(axis=2, keepdims=True)
        canvas += amplitude * (1.3 * brightness + 0.25 * noise)
        cells, amplitude = cells * 2, amplitude * kind.falloff
    _draw_discs(random, canvas)
    canvas += random.normal(0, kind.grain, canvas.shape)
    return np.clip(canvas, 0, 255).round().astype(np.uint8)


def _smooth_noise(random: np.random.Generator, cells: int, size: int) -> NDArray[np.float64]:
    grid = random.standard_normal((cells, cells, 3)).astype(np.float32)
    planes = [
        Image.fromarray(grid[:, :, channel]).resize((size, size), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    return np.stack([np.asarray(plane, np.float64) for plane in planes], axis=2)


def _draw_discs(random: np.random.Generator, canvas: NDArray[np.float64]) -> None:
    size = len(canvas)
    y, x = np.mgrid[0:size, 0:size] / size
    for _ in range(12):
        left, top, radius = random.random(3)
        inside = (x - left) ** 2 + (y - top) ** 2 < (radius / 5) ** 2
        canvas[inside] += random.normal(0, 40, 3)
