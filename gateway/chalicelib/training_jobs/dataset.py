"""A folder of pictures and their captions."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .failures import TrainingFailed
from .fields import Text
from .job import Job

# Of pictures.
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
_CAPTION = Text("", shortest=0, longest=1_000)
_CAPTION_FILES = (".txt", ".caption")
_METADATA = ("metadata.jsonl", "metadata.csv")
_COLUMNS = ("text", "caption", "prompt")
_LARGEST_TEXT = 20_000_000  # bytes of a metadata file
_MOST_PICTURES = 5_000
_NOT_READ = {".heic", ".heif", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".jxl", ".svg"}
# Folders of kohya's scripts: how often, and the caption of pictures without their own.
_FOLDER = re.compile(r"(\d{1,4})_(.+)")


@dataclass(frozen=True)
class Item:
    """A picture's file, its caption, and how often an epoch has it."""

    path: Path
    caption: str
    repeats: int


def read_folder(folder: Path, job: Job) -> tuple[list[Item], list[str]]:
    """Return the pictures, sorted by path, and notes on what is not used.

    The caption of a picture is the first of: a file of its name with the ending `.txt` or
    `.caption`; its row in `metadata.jsonl` or `metadata.csv`, as data sets of Hugging Face have
    them; the name of its folder, if that is `10_a dog` for ten repeats; the job's instance_prompt.

    Raises:
        TrainingFailed: if there are no pictures, too many, or one has no caption.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_shown(path)]
    pictures = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise TrainingFailed(
            f"{folder.name} has no pictures; upload PNG, JPEG or WebP files to that channel."
        )
    if len(pictures) > _MOST_PICTURES:
        raise TrainingFailed(f"{folder.name} has more than {_MOST_PICTURES:,} pictures; use fewer.")
    metadata = _read_metadata(folder)
    items = [_item(path, folder, job, metadata) for path in pictures]
    skipped = [path.name for path in paths if path.suffix.lower() in _NOT_READ]
    notes = [f"{name} is not read: only PNG, JPEG and WebP are" for name in skipped]
    return items, notes


def class_items(folder: Path, job: Job) -> tuple[list[Item], list[str]]:
    """Return the pictures of the class; those without a caption of their own have class_prompt.

    Raises:
        TrainingFailed: as `read_folder`.
    """
    values = {**job.to_dict(), "instance_prompt": job.class_prompt, "trigger": "", "repeats": 1}
    return read_folder(folder, Job.from_dict(values))


def with_trigger(caption: str, trigger: str) -> str:
    """Return the caption with the trigger words in front, unless it has them."""
    if not trigger or trigger.casefold() in caption.casefold():
        return caption
    return f"{trigger}, {caption}" if caption else trigger


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".") and "__MACOSX" not in path.parts


def _item(path: Path, folder: Path, job: Job, metadata: dict[str, str]) -> Item:
    named = _FOLDER.fullmatch(path.parent.name) if path.parent != folder else None
    repeats = min(max(int(named[1]), 1), 1_000) if named else job.repeats
    if job.captions == "names":
        caption: str | None = _from_name(path.stem)
    else:
        caption = _from_file(path)
        if caption is None:
            caption = metadata.get(path.relative_to(folder).as_posix())
        if caption is None:
            caption = (named[2] if named else "") or job.instance_prompt or job.trigger or None
    if caption is None:
        raise TrainingFailed(
            f"{path.name} has no caption; add {path.stem}.txt, or set instance_prompt."
        )
    try:
        return Item(path, _CAPTION.clean(with_trigger(caption, job.trigger)), repeats)
    except ValueError as error:
        raise TrainingFailed(f"The caption of {path.name} {error}.") from error


def _from_name(stem: str) -> str:
    """Return what a file name says: `a_red-fox (2)` is "a red fox"."""
    text = re.sub(r"[\s_]*(\(\d+\)|[\s_-]\d+)$", "", stem)
    return re.sub(r"[_-]+", " ", text).strip()


def _from_file(path: Path) -> str | None:
    for suffix in _CAPTION_FILES:
        # `dog.png` has `dog.txt`, or `dog.png.txt`.
        for file in (path.with_suffix(suffix), path.with_name(path.name + suffix)):
            if file.is_file():
                lines = [line.strip() for line in _read(file, 20_000).splitlines()]
                return " ".join(line for line in lines if line)
    return None


def _read(path: Path, largest: int) -> str:
    if path.stat().st_size > largest:
        raise TrainingFailed(f"{path.name} is larger than {largest:,} bytes.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrainingFailed(f"{path.name} is not UTF-8 text; save it as UTF-8.") from error


def _read_metadata(folder: Path) -> dict[str, str]:
    """Return captions by the picture's path in the folder."""
    captions = {}
    for name in _METADATA:
        if (folder / name).is_file():
            rows = _rows(_read(folder / name, _LARGEST_TEXT), name)
            for number, row in enumerate(rows, 1):
                column = next((one for one in _COLUMNS if isinstance(row.get(one), str)), None)
                file = row.get("file_name")
                if column is None or not isinstance(file, str):
                    raise TrainingFailed(f"Row {number} of {name} needs file_name and text.")
                captions[file.removeprefix("./")] = str(row[column])
    return captions


def _rows(text: str, name: str) -> Iterator[dict[str, object]]:
    if name.endswith(".csv"):
        yield from csv.DictReader(text.splitlines())
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise TrainingFailed(f"Line {number} of {name} is not a JSON object.")
            yield row
