"""Look at the pictures of a training job before anything is uploaded or paid for.

What the trainer would refuse is refused here, with all pictures at once instead of the first.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps

from endpoint.core.problems import BadArgument
from endpoint.core.training_jobs.dataset import Item, class_items, class_sets, read_folder
from endpoint.core.training_jobs.failures import TrainingFailed
from endpoint.core.training_jobs.job import Job
from endpoint.provision.contact_sheet import MOST_TILES, TILE, Tile, sheet

# The trainer's limits; a test compares them.
FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 40_000_000
LARGEST_FILE = 50_000_000  # bytes
_FEW = 5
# Of 64 bits of the difference hash; pictures of a burst differ in more.
_NEAR = 3


@dataclass(frozen=True)
class Picture:
    """A picture of a data set.

    Attributes:
        item: file, caption and repeats.
        width: in pixels, upright; 0 if it cannot be decoded.
        height: likewise.
        format: PNG, JPEG or WEBP.
        problem: why it cannot be used, in a few words; empty if it can.
        thumbnail: at most 192 pixels wide and high.
    """

    item: Item
    width: int = 0
    height: int = 0
    format: str = ""
    problem: str = ""
    thumbnail: Image.Image | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.item.path.name


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        folder: that they are in.
        pictures: in the order of their paths.
        notes: what is worth knowing, in sentences.
    """

    folder: Path
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def problems(self) -> list[str]:
        """Why pictures cannot be used, a line for each."""
        return [f"{one.name} {one.problem}" for one in self.pictures if one.problem]

    @property
    def repeated(self) -> int:
        """How many pictures an epoch has."""
        return sum(one.item.repeats for one in self.pictures)


def examine(folder: Path, job: Job, resolution: int, *, of_class: bool = False) -> Report:
    """Look at each picture and caption of a folder.

    Args:
        folder: the pictures and captions.
        job: how captions are found.
        resolution: the side of the square that pictures are scaled to, in pixels.
        of_class: whether they are pictures of the class, whose default caption is class_prompt.

    Raises:
        BadArgument: if there are no pictures, or one has no caption.
    """
    if not folder.is_dir():
        raise BadArgument(f"{folder} is no folder.", "Pass the folder with the pictures.")
    try:
        items, notes = (_of_class if of_class else read_folder)(folder, job)
    except TrainingFailed as error:
        advice = _CLASS_CAPTIONS if of_class else _CAPTIONS
        raise BadArgument(str(error), advice if "caption" in str(error) else "") from error
    pictures = tuple(_look_at(item) for item in items)
    notes = [f"{note}." for note in notes]
    notes += _small(pictures, resolution)
    notes += _duplicates(pictures)
    if not of_class and len(pictures) < _FEW:
        notes.append(f"{len(pictures)} pictures are few: {_FEW} to 30 different ones are good.")
    return Report(folder, pictures, tuple(notes))


def _of_class(folder: Path, job: Job) -> tuple[list[Item], list[str]]:
    """Return the pictures of sets of the class, or all that are in a folder of their own."""
    items = class_sets(folder, job)
    return (items, []) if items else class_items(folder, job)


_CAPTIONS = (
    "A caption is a text file next to a picture (dog.txt for dog.png); or pass --prompt or"
    " --trigger for pictures without one."
)
_CLASS_CAPTIONS = "Pass --class-prompt, the caption of the class."


def _look_at(item: Item) -> Picture:
    if item.path.stat().st_size > LARGEST_FILE:
        return Picture(item, problem=f"is larger than {LARGEST_FILE // 1_000_000} MB")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, whose size is looked at here.
            warnings.simplefilter("ignore")
            return _decode(item)
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError):
        return Picture(item, problem="cannot be decoded as a PNG, JPEG or WebP picture")


def _decode(item: Item) -> Picture:
    # Without `formats`, Pillow would start Ghostscript for a file that begins like PostScript.
    with Image.open(item.path, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            return Picture(item, problem=f"has more than {MOST_PIXELS // 1_000_000} million pixels")
        kind = image.format or ""
        # A JPEG file is decoded at a fraction of its size, and still read to its end.
        image.draft("RGB", (2 * TILE, 2 * TILE))
        image.load()
        scaled = image.size
        upright = _opaque(ImageOps.exif_transpose(image))
    if (upright.width > upright.height) != (scaled[0] > scaled[1]):
        width, height = height, width
    upright.thumbnail((TILE, TILE))
    return Picture(item, width, height, kind, "", upright)


def _opaque(image: Image.Image) -> Image.Image:
    """Return a picture as the trainer sees it: on white, and 16-bit grey with its brightness."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _small(pictures: Sequence[Picture], resolution: int) -> list[str]:
    small = [
        one
        for one in pictures
        if not one.problem and one.width * one.height < (resolution / 2) ** 2
    ]
    if not small:
        return []
    shown = _listed([f"{one.name} ({one.width} x {one.height})" for one in small])
    return [f"Much smaller than {resolution} x {resolution}, so that they become blurred: {shown}."]


def _duplicates(pictures: Sequence[Picture]) -> list[str]:
    """Return which files are equal, and which pictures nearly so."""
    notes: list[str] = []
    first: dict[str, str] = {}
    hashes: list[tuple[int, Picture]] = []
    for one in pictures:
        if one.problem or one.thumbnail is None:
            continue
        with one.item.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        if content in first:
            notes.append(f"{one.name} is the same file as {first[content]}.")
            continue
        first[content] = one.name
        code = _difference_hash(one.thumbnail)
        near = next((other for known, other in hashes if (known ^ code).bit_count() <= _NEAR), None)
        if near is not None:
            notes.append(f"{one.name} looks nearly like {near.name}.")
        hashes.append((code, one))
    return notes


def _difference_hash(image: Image.Image) -> int:
    """Return 64 bits: whether each of 9 x 8 grey values is larger than its right neighbour.

    https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
    """
    grey = image.convert("L").resize((9, 8), Image.Resampling.BILINEAR).tobytes()
    bits = 0
    for row in range(8):
        for column in range(8):
            bits = 2 * bits + (grey[9 * row + column] > grey[9 * row + column + 1])
    return bits


def _listed(names: Sequence[str], most: int = 6) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def contact_sheet(report: Report) -> Image.Image:
    """Return the pictures side by side with their numbers, sizes and captions."""
    return sheet(
        Tile(
            one.thumbnail,
            (
                f"{number}  {one.name}",
                one.problem or f"{one.width} x {one.height}",
                one.item.caption,
            ),
            is_wrong=bool(one.problem),
        )
        for number, one in enumerate(report.pictures[:MOST_TILES], 1)
    )
