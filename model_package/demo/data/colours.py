"""The named colours, and recolouring a thing."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The RGB values of each colour; below, other words for some of them, the name first.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 40, 44),
    "orange": (245, 135, 20),
    "yellow": (250, 212, 40),
    "green": (60, 172, 70),
    "teal": (30, 175, 175),
    "blue": (45, 105, 225),
    "purple": (135, 60, 190),
    "pink": (250, 130, 180),
    "brown": (125, 78, 42),
    "white": (246, 246, 248),
    "black": (38, 38, 42),
    "gray": (135, 138, 142),
}
COLOUR_NAMES = tuple(COLOURS)
COLOUR_WORDS = {
    "teal": ("teal", "turquoise", "cyan"),
    "purple": ("purple", "violet"),
    "gray": ("gray", "grey"),
}

HUE_BINS = 36  # of 10 degrees each
DOMINANT_BINS = 7  # a 70 degree window holds "one colour" with its shades
DOMINANT_SHARE = 0.6
DOMINANT_AREA = 0.3
WHITE_AT_BRIGHTEST = 0.6  # how far the lightest spot goes from the colour towards white

Floats = NDArray[np.float32]


def recolour(picture: Image.Image, colour: str) -> Image.Image:
    """Recolour an RGBA image, and keep its shading and its other parts.

    If one hue dominates (a red apple with a green leaf), only that hue changes, else the whole
    image. The mean shade becomes the colour itself, so that the caption is true.
    """
    rgba: Floats = np.asarray(picture, np.float32) / np.float32(255)
    rgb, alpha = rgba[..., :3], rgba[..., 3]
    share = recolourable_share(rgb, alpha)[..., None]
    shaded = shade(luminance(rgb), share[..., 0] * alpha, COLOURS[colour])
    mixed = rgb * (1 - share) + shaded * share
    out = np.concatenate([mixed, rgba[..., 3:]], axis=-1)
    return Image.fromarray((out * 255 + 0.5).astype(np.uint8))


def luminance(rgb: Floats) -> Floats:
    """Return perceived brightness (ITU-R BT.601)."""
    light: Floats = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    return light


def shade(light: Floats, weight: Floats, colour: tuple[int, int, int]) -> Floats:
    """Map brightness onto black -> colour -> white; the weighted mean lands on the colour."""
    middle = float(np.clip((light * weight).sum() / max(float(weight.sum()), 1e-6), 0.05, 0.9))
    target = np.array(colour, np.float32) / 255
    dark = np.clip(light / middle, 0, 1)[..., None] * target
    lift = np.clip((light - middle) / (1 - middle), 0, 1)[..., None] * WHITE_AT_BRIGHTEST
    shaded: Floats = (dark + lift * (1 - target)).astype(np.float32)
    return shaded


def recolourable_share(rgb: Floats, alpha: Floats) -> Floats:
    """Return the share of each pixel to recolour: that of the dominant hue, or all of it."""
    hue, saturation, value = hsv(rgb)
    weight = saturation * value * alpha
    bins, _ = np.histogram(hue, HUE_BINS, (0, 1), weights=weight)
    around = np.arange(DOMINANT_BINS) - DOMINANT_BINS // 2
    windows = bins[(np.arange(HUE_BINS)[:, None] + around) % HUE_BINS].sum(1)
    centre = (int(windows.argmax()) + 0.5) / HUE_BINS
    distance = np.abs((hue - centre + 0.5) % 1 - 0.5) * 360
    near = ramp(distance, 70, 45) * ramp(saturation, 0.12, 0.3)
    dominant = windows.max() >= DOMINANT_SHARE * weight.sum()
    large = (near * alpha).sum() >= DOMINANT_AREA * alpha.sum()
    return near if dominant and large else np.ones_like(near)


def ramp(values: Floats, zero_at: float, one_at: float) -> Floats:
    """Rise linearly from 0 to 1 between two values, in either direction."""
    risen: Floats = np.clip((values - zero_at) / (one_at - zero_at), 0, 1).astype(np.float32)
    return risen


def hsv(rgb: Floats) -> tuple[Floats, Floats, Floats]:
    """Return hue (0 to 1), saturation and value of each pixel."""
    pixels = Image.fromarray((rgb * 255 + 0.5).astype(np.uint8)).convert("HSV")
    hue, saturation, value = np.moveaxis(np.asarray(pixels, np.float32) / 255, -1, 0)
    return hue, saturation, value
