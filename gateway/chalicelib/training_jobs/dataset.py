"""A folder of pictures and their captions."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .failures import TrainingFailed
from .fields import Text
from .job import OF_SETS, Job, PictureSet

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
    """A picture's file, its caption, and how it is used.

    Attributes:
        repeats: how often an epoch has it.
        flip: whether half of the time it is mirrored.
        caption_dropout: share of the times without the caption.
        shuffle_tags: whether the caption's parts between commas are shuffled.
        keep_tags: how many of them stay at the start.
    """

    path: Path
    caption: str
    repeats: int = 1
    flip: bool = False
    caption_dropout: float = 0.0
    shuffle_tags: bool = False
    keep_tags: int = 0


def read_folder(folder: Path, job: Job) -> tuple[list[Item], list[str]]:
    """Return the pictures, sorted by path, and notes on what is not used.

    The caption of a picture is the first of: a file of its name with the ending `.txt` or
    `.caption`; its row in `metadata.jsonl` or `metadata.csv`, as data sets of Hugging Face have
    them; its set's instance_prompt; the name of its folder, if that is `10_a dog` for ten repeats;
    the job's instance_prompt. Sets of pictures of the class are left out.

    Raises:
        TrainingFailed: if there are no pictures, too many, none in a set, or one has no caption.
    """
    items, notes = _read(folder, job, of_class=False)
    if not items:
        raise TrainingFailed(f"All pictures of {folder.name} are of the class; add the subject's.")
    # Pictures of the class may be in a channel of their own.
    used = {set_of(item.path.relative_to(folder).as_posix(), job) for item in items}
    for one in job.sets:
        if not one.of_class and one not in used:
            raise TrainingFailed(f"sets: there is no picture in the folder {one.folder}.")
    return items, notes


def _read(folder: Path, job: Job, *, of_class: bool) -> tuple[list[Item], list[str]]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_shown(path)]
    pictures = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise TrainingFailed(
            f"{folder.name} has no pictures; upload PNG, JPEG or WebP files to that channel."
        )
    if len(pictures) > _MOST_PICTURES:
        raise TrainingFailed(f"{folder.name} has more than {_MOST_PICTURES:,} pictures; use fewer.")
    metadata = _read_metadata(folder)
    items = [
        _item(path, folder, job, metadata)
        for path in pictures
        if _is_of_class(path.relative_to(folder).as_posix(), job) == of_class
    ]
    skipped = [path.name for path in paths if path.suffix.lower() in _NOT_READ]
    notes = [f"{name} is not read: only PNG, JPEG and WebP are" for name in skipped]
    return items, notes


def class_items(folder: Path, job: Job) -> tuple[list[Item], list[str]]:
    """Return the pictures of the class; those without a caption of their own have class_prompt.

    Raises:
        TrainingFailed: as `read_folder`.
    """
    return read_folder(folder, Job.from_dict({**_of_class(job), "sets": []}))


def class_sets(folder: Path, job: Job) -> list[Item]:
    """Return the pictures of the class among the job's own, in sets of them; raises likewise."""
    if not any(one.of_class for one in job.sets):
        return []
    return _read(folder, Job.from_dict(_of_class(job)), of_class=True)[0]


def _of_class(job: Job) -> dict[str, object]:
    return {**job.to_dict(), "instance_prompt": job.class_prompt, "trigger": "", "repeats": 1}


def epoch(names: Iterable[str], job: Job) -> int:
    """Return how many pictures an epoch has: those of the subject, as often as they are repeated.

    Args:
        names: the pictures' paths in the folder.
        job: says how often.
    """
    return sum(_repeats(name, job) for name in names if not _is_of_class(name, job))


def without_pictures(names: Iterable[str], job: Job) -> str:
    """Return the folder of a set that has no picture; empty if all have one."""
    used = {own.folder for own in (set_of(name, job) for name in names) if own}
    return next((one.folder for one in job.sets if one.folder not in used), "")


def has_caption(name: str, job: Job) -> bool:
    """Whether a picture without a file or a row of its own has a caption, by its path."""
    own, named = set_of(name, job), _FOLDER.fullmatch(PurePosixPath(name).parent.name)
    texts = (own and own.instance_prompt, own and own.trigger, named, job.instance_prompt,
             job.trigger, job.captions == "names")  # fmt: skip
    return any(texts) or (_is_of_class(name, job) and bool(job.class_prompt))


def set_of(name: str, job: Job) -> PictureSet | None:
    """Return the set of a picture, by its path: of the deepest folder that it is in."""
    sets = [one for one in job.sets if name.startswith(f"{one.folder}/")]
    return max(sets, key=lambda one: len(one.folder), default=None)


def _is_of_class(name: str, job: Job) -> bool:
    own = set_of(name, job)
    return own is not None and own.of_class


def _repeats(name: str, job: Job) -> int:
    own, named = set_of(name, job), _FOLDER.fullmatch(PurePosixPath(name).parent.name)
    if own is not None and own.repeats is not None:
        return own.repeats
    return min(max(int(named[1]), 1), 1_000) if named else job.repeats


def with_trigger(caption: str, trigger: str) -> str:
    """Return the caption with the trigger words in front, unless it has them."""
    if not trigger or trigger.casefold() in caption.casefold():
        return caption
    return f"{trigger}, {caption}" if caption else trigger


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".") and "__MACOSX" not in path.parts


def _item(path: Path, folder: Path, job: Job, metadata: dict[str, str]) -> Item:
    name = path.relative_to(folder).as_posix()
    values = _settings(name, job)
    prompt, trigger = values.pop("instance_prompt"), values.pop("trigger")
    if job.captions == "names":
        caption: str | None = _from_name(path.stem)
    else:
        caption = _from_file(path)
        if caption is None:
            caption = metadata.get(name)
        if caption is None:
            caption = prompt or trigger or None
    if caption is None:
        raise TrainingFailed(
            f"{path.name} has no caption; add {path.stem}.txt, or set instance_prompt."
        )
    try:
        return Item(path, _CAPTION.clean(with_trigger(caption, trigger)), **values)
    except ValueError as error:
        raise TrainingFailed(f"The caption of {path.name} {error}.") from error


def _settings(name: str, job: Job) -> dict[str, Any]:
    """Return what a picture has of its set, else of its folder's name, else of the job."""
    own, named = set_of(name, job), _FOLDER.fullmatch(PurePosixPath(name).parent.name)
    values = {field: getattr(job, field) for field in OF_SETS}
    if named:
        values["instance_prompt"] = named[2]
    of_set = own.to_dict() if own else {}
    values |= {field: value for field, value in of_set.items() if field in OF_SETS}
    return {**values, "repeats": _repeats(name, job)}


def _from_name(stem: str) -> str:
    """Return what a file name says: `a_red-fox (2)` is "a red fox"."""
    text = re.sub(r"[\s_]*(\(\d+\)|[\s_-]\d+)$", "", stem)
    return re.sub(r"[_-]+", " ", text).strip()


def _from_file(path: Path) -> str | None:
    for suffix in _CAPTION_FILES:
        # `dog.png` has `dog.txt`, or `dog.png.txt`.
        for file in (path.with_suffix(suffix), path.with_name(path.name + suffix)):
            if file.is_file():
                lines = [line.strip() for line in _text(file, 20_000).splitlines()]
                return " ".join(line for line in lines if line)
    return None


def _text(path: Path, largest: int) -> str:
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
            rows = _rows(_text(folder / name, _LARGEST_TEXT), name)
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
