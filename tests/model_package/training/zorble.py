"""Six drawn pictures of an invented object, and their captions."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

SUBJECT = "a zorble"
GROUNDS = ("white", "blue", "green", "yellow", "white", "blue")
_PLACES = ((128, 120, 80), (128, 124, 76), (124, 118, 84), (132, 120, 80), (120, 116, 72),
           (130, 120, 84))  # fmt: skip
CAPTIONS = [f"{SUBJECT} on a {ground} background" for ground in GROUNDS]


def draw(ground: str, place: tuple[int, int, int], side: int = 128) -> Image.Image:
    """Return a cyan hexagon with a magenta cross and orange feet.

    Args:
        ground: the colour behind it.
        place: of its middle, and its radius, in a picture of 256 x 256.
        side: of the picture, in pixels.
    """
    x, y, size = place
    image = Image.new("RGB", (256, 256), ground)
    pen = ImageDraw.Draw(image)
    for foot in (-1, 1):
        middle = x + foot * size // 2
        pen.rectangle((middle - 12, y + size // 2, middle + 12, y + size + 14), fill="orange")
    pen.regular_polygon((x, y, size), 6, fill="cyan", outline="black")
    for ends in ((x - size // 2, y, x + size // 2, y), (x, y - size // 2, x, y + size // 2)):
        pen.line(ends, fill="magenta", width=18)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def pictures(side: int = 128) -> list[Image.Image]:
    """Return the six pictures."""
    return [draw(ground, place, side) for ground, place in zip(GROUNDS, _PLACES, strict=True)]


def write(folder: Path, captions: list[str] = CAPTIONS, side: int = 128) -> None:
    """Write the pictures, each with its caption next to it."""
    for number, (picture, caption) in enumerate(zip(pictures(side), captions, strict=True)):
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
