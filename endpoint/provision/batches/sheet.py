"""The contact sheet of a batch."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from endpoint.core.batches import results
from endpoint.core.batches.lines import Line, Picture
from endpoint.provision.batches.folder import SHEET, Folder
from endpoint.provision.contact_sheet import MOST_TILES, TILE, Tile, sheet


def write_sheet(folder: Folder) -> Path:
    """Write a sheet of the first 120 pictures, with the lines that failed; return its path."""
    pairs = [(line, picture) for line in folder.lines for picture in line.pictures]
    path = folder.path / SHEET
    sheet(_tile(folder, *pair) for pair in pairs[:MOST_TILES]).save(path, format="PNG")
    return path


def _tile(folder: Folder, line: Line, picture: Picture) -> Tile:
    failure = results.message_of(folder.results.get(line.custom_id, {}))
    lines = (picture.name, failure or picture.request.prompt, f"seed {picture.request.seed}")
    try:
        with Image.open(folder.path / picture.file) as image:
            image.thumbnail((TILE, TILE))
            return Tile(image.convert("RGB"), lines, is_wrong=bool(failure))
    # Also what PIL cannot decode: a picture that others wrote must not end the batch.
    except (OSError, ValueError, SyntaxError):
        return Tile(None, lines, is_wrong=bool(failure))
