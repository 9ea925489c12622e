"""A contact sheet: many pictures side by side, with a few lines of text below each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

TILE = 192  # pixels, of a thumbnail's longer side
MOST_TILES = 120
_COLUMNS, _MARGIN, _LINE = 6, 8, 14
_LINES = 3


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        thumbnail: at most TILE pixels wide and high; None for a frame without a picture.
        lines: at most three.
        is_wrong: whether its text is red.
    """

    thumbnail: Image.Image | None
    lines: tuple[str, ...]
    is_wrong: bool = False


def sheet(tiles: Iterable[Tile]) -> Image.Image:
    """Return the first 120 tiles, six in a row."""
    shown = list(tiles)[:MOST_TILES]
    columns = max(min(_COLUMNS, len(shown)), 1)
    rows = -(-len(shown) // columns)
    wide, high = TILE + 2 * _MARGIN, TILE + _LINES * _LINE + 2 * _MARGIN
    image = Image.new("RGB", (columns * wide, max(rows, 1) * high), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
    for number, tile in enumerate(shown):
        left, top = number % columns * wide + _MARGIN, number // columns * high + _MARGIN
        if tile.thumbnail is not None:
            image.paste(tile.thumbnail, (left, top))
        else:
            draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline="red", width=2)
        for line, text in enumerate(tile.lines[:_LINES]):
            position = (left, top + TILE + 2 + line * _LINE)
            draw.text(position, _fitting(text), fill="red" if tile.is_wrong else "black", font=font)
    return image


def _fitting(text: str, longest: int = 32) -> str:
    """Return a text that fits below a tile; the font has Latin letters only."""
    plain = text.encode("latin-1", "replace").decode("latin-1")
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}."
