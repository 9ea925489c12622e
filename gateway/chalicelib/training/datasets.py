"""Data sets: pictures and captions that callers upload to S3 themselves, and that expire there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

from chalicelib.aws.parallel import in_parallel
from chalicelib.aws.s3 import Listed, Store, UploadForm
from chalicelib.errors import InvalidRequest, TrainingQuotaUsed, TrainingUnknown
from chalicelib.training.training_request import CAPTION, MOST_PICTURES, invalid
from chalicelib.training_jobs import places
from chalicelib.training_jobs.dataset import has_caption, with_trigger, without_pictures
from chalicelib.training_jobs.job import Job

# The media types of an upload, with the ending that the server gives the file.
PICTURES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
CAPTIONS = {"text/plain": ".txt"}
LARGEST_PICTURE = 20_000_000  # bytes
MOST_PIXELS = 40_000_000  # the trainer's limit
LARGEST_CAPTION = 16_000  # bytes; 1,000 characters and some room
LARGEST_SET = 2_000_000_000  # bytes
UPLOAD_SECONDS = 900
MOST_SETS = 100  # of an owner, so that uploads without end do not cost without end
_ENDINGS = {*PICTURES.values(), ".jpeg"}
_CAPTION_ENDINGS = (".txt", ".caption")
_METADATA = "metadata.jsonl"
_LARGEST_METADATA = 2_000_000  # bytes
_MOST_OBJECTS = 1_000
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
_START_BYTES = 12
Result = TypeVar("Result")


@dataclass(frozen=True)
class Upload:
    """A file to be uploaded: its name, and the form that takes it."""

    name: str
    form: UploadForm


@dataclass(frozen=True)
class DataSet:
    """What is in a data set.

    Attributes:
        pictures: the names of the files.
        captions: by the picture's name, from metadata and from files next to the pictures.
        in_files: the names of the pictures whose captions are in files, which come first.
        digest: changes with every file.
    """

    pictures: tuple[str, ...]
    captions: Mapping[str, str]
    in_files: frozenset[str]
    digest: str

    @classmethod
    def to_come(cls, pictures: int) -> DataSet:
        """Return a data set of as many pictures that are not uploaded yet."""
        names = tuple(f"{number:04}.png" for number in range(1, pictures + 1))
        return cls(names, {}, frozenset(), "")


class DataSets:
    """The data sets of all owners.

    Args:
        store: the whole bucket.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, owner: str, files: object) -> tuple[str, list[Upload]]:
        """Return the id of a new data set, and a form for each of its files, in their order.

        Args:
            owner: whose it will be.
            files: a list of `{"type", "size"}` for pictures and `{"type", "size", "caption_of"}`
                for their captions, where `caption_of` is the index of the picture in the list.

        Raises:
            InvalidRequest: naming the file that is wrong.
            TrainingQuotaUsed: if the owner has as many data sets as can be stored.
        """
        entries = _entries(files)
        folder = f"{places.DATASETS}{owner}/"
        if self._store.count_folders(folder, MOST_SETS) >= MOST_SETS:
            raise TrainingQuotaUsed(
                f"This key has {MOST_SETS} data sets; delete some. They expire after"
                f" {places.DATASET_DAYS} days."
            )
        identifier = places.new_id()
        uploads = [
            Upload(
                name,
                self._store.upload_form(
                    places.dataset_file(owner, identifier, name), kind, size, UPLOAD_SECONDS
                ),
            )
            for name, kind, size in entries
        ]
        return identifier, uploads

    def read(self, owner: str, identifier: str) -> DataSet:
        """Return what is in a data set, with every file checked as far as its first bytes.

        Raises:
            TrainingUnknown: if the owner has no such data set, or it has expired.
            InvalidRequest: naming the file that cannot be used.
        """
        prefix = places.dataset(owner, identifier)
        listed = self._listed(prefix)
        if not listed:
            raise unknown_dataset()
        pictures = [one for one in listed if _ending(one.key) in _ENDINGS]
        _check_sizes(listed, pictures)
        for name, start in self._each(pictures, lambda one: self._start(prefix + one.key)):
            if not start.startswith(_STARTS):
                raise invalid("dataset", f"{name} is no PNG, JPEG or WebP picture")
        stems = {_stem(one.key): one.key for one in pictures}
        files = {
            stems[stem]: text
            for stem, text in self._caption_files(prefix, listed).items()
            if stem in stems
        }
        return DataSet(
            pictures=tuple(one.key for one in pictures),
            captions={**self._metadata(prefix, listed), **files},
            in_files=frozenset(files),
            digest=_digest(listed),
        )

    def digest(self, owner: str, identifier: str) -> str | None:
        """Return a data set's digest, without reading its files; None if there is none."""
        listed = self._listed(places.dataset(owner, identifier))
        return _digest(listed) if listed else None

    def delete(self, owner: str, identifier: str) -> None:
        """Delete a data set's files.

        Raises:
            TrainingUnknown: if the owner has no such data set, or it has expired.
            StoreUnavailable: if S3 did not confirm that all of them are deleted.
        """
        prefix = places.dataset(owner, identifier) if places.is_id(identifier) else ""
        listed = self._store.listed(prefix, _MOST_OBJECTS) if prefix else []
        if not listed:
            raise unknown_dataset()
        while listed:
            in_parallel(lambda one: self._store.delete(one.key), listed)
            listed = self._store.listed(prefix, _MOST_OBJECTS)

    def caption(self, owner: str, identifier: str, captions: Mapping[str, str]) -> str:
        """Write the captions of a data set's pictures, and return its digest.

        They replace those of an earlier call.
        """
        rows = (
            json.dumps({"file_name": name, "text": text}, ensure_ascii=False)
            for name, text in sorted(captions.items())
        )
        body = "".join(f"{row}\n" for row in rows).encode()
        self._store.write(places.dataset_file(owner, identifier, _METADATA), body)
        return self.digest(owner, identifier) or ""

    def _listed(self, prefix: str) -> list[Listed]:
        """Return the objects of a data set, without the marker, by their names in it."""
        names = (
            replace(one, key=one.key.removeprefix(prefix))
            for one in self._store.listed(prefix, _MOST_OBJECTS + 1)
        )
        return [one for one in names if one.key != places.MARKER]

    def _start(self, key: str) -> bytes:
        return self._store.read_start(key, _START_BYTES) or b""

    def _caption_files(self, prefix: str, listed: Sequence[Listed]) -> dict[str, str]:
        """Return captions by the picture's name without its ending."""
        files = [one for one in listed if _ending(one.key) in _CAPTION_ENDINGS]
        captions = {}
        for name, body in self._each(files, lambda one: self._body(prefix + one.key)):
            # `dog.png` has `dog.txt`, or `dog.png.txt`.
            captions[_stem(name)] = _caption(name, body)
        return captions

    def _metadata(self, prefix: str, listed: Sequence[Listed]) -> dict[str, str]:
        if not any(one.key == _METADATA for one in listed):
            return {}
        captions = {}
        for number, line in enumerate(self._body(prefix + _METADATA).splitlines(), 1):
            try:
                row = json.loads(line)
                name, text = row["file_name"], row["text"]
                captions[str(name)] = CAPTION.clean(text)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise invalid("dataset", f"line {number} of {_METADATA} is no caption") from error
        return captions

    def _body(self, key: str) -> bytes:
        stored = self._store.read(key, longest=_LARGEST_METADATA)
        return stored.body if stored else b""

    def _each(
        self, listed: Sequence[Listed], work: Callable[[Listed], Result]
    ) -> Iterable[tuple[str, Result]]:
        # S3 responds to each in some 20 ms, and a set has hundreds of objects.
        return zip((one.key for one in listed), in_parallel(work, listed), strict=True)


def with_captions(dataset: DataSet, given: Mapping[str, str]) -> dict[str, str]:
    """Return the captions of all pictures that have one; `given` ones replace those of metadata.

    Args:
        dataset: as it was read.
        given: by the picture's name, with or without its ending.

    Raises:
        InvalidRequest: if one of them is of no picture.
    """
    names = {spelling: name for name in dataset.pictures for spelling in (_stem(name), name)}
    for name in given:
        if name not in names:
            raise invalid("captions", f"{name[:64]!r} is no picture of the data set")
        if names[name] in dataset.in_files:
            raise invalid("captions", f"{name[:64]} has a caption in a file of its own")
    return {**dataset.captions, **{names[name]: text for name, text in given.items()}}


def check_captions(dataset: DataSet, captions: Mapping[str, str], job: Job) -> None:
    """Refuse a job with a picture that has no caption, or too long a one with the trigger.

    Raises:
        InvalidRequest: naming the picture.
    """
    for name, text in captions.items():
        try:
            CAPTION.clean(with_trigger(text, job.trigger))
        except ValueError as error:
            raise invalid("trigger", f"with the caption of {name[:64]}, {error}") from error
    if folder := without_pictures(dataset.pictures, job):
        raise invalid("sets", f"there is no picture in the folder {folder[:64]}")
    for name in dataset.pictures:
        if name not in captions and not has_caption(name, job):
            raise invalid(
                "instance_prompt", f"is required, or a trigger, because {name} has no caption"
            )


def unknown_dataset() -> TrainingUnknown:
    """Return the error of a data set that a caller does not have."""
    return TrainingUnknown("Unknown or expired data set.", field="dataset")


# --- Files ----------------------------------------------------------------------------------------


def _entries(files: object) -> list[tuple[str, str, int]]:
    """Return the name, the media type and the size of each file."""
    if not isinstance(files, list) or not files or len(files) > 2 * MOST_PICTURES:
        raise invalid("files", f"must be a list of 1 to {MOST_PICTURES} pictures, and captions")
    types = [_type_of(number, entry) for number, entry in enumerate(files)]
    pictures = [number for number, kind in enumerate(types) if kind in PICTURES]
    if not 1 <= len(pictures) <= MOST_PICTURES:
        raise invalid("files", f"must have 1 to {MOST_PICTURES} pictures")
    names = {number: f"{place:04}" for place, number in enumerate(pictures, 1)}
    entries, captioned = [], set()
    for number, (entry, kind) in enumerate(zip(files, types, strict=True)):
        size = _size_of(number, entry, LARGEST_PICTURE if kind in PICTURES else LARGEST_CAPTION)
        of = number if kind in PICTURES else entry.get("caption_of")
        if not isinstance(of, int) or isinstance(of, bool) or of not in names:
            raise _invalid_file(number, "caption_of must be the index of a picture in the list")
        if kind in CAPTIONS and of in captioned:
            raise _invalid_file(number, "is a second caption of the same picture")
        captioned |= {of} if kind in CAPTIONS else set()
        entries.append((names[of] + {**PICTURES, **CAPTIONS}[kind], kind, size))
    if sum(size for _, _, size in entries) > LARGEST_SET:
        raise invalid("files", f"must have at most {LARGEST_SET:,} bytes together")
    return entries


def _type_of(number: int, entry: Any) -> str:
    if not isinstance(entry, dict):
        raise _invalid_file(number, "must be an object with type and size")
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in {**PICTURES, **CAPTIONS}:
        raise _invalid_file(number, f"type must be one of {', '.join([*PICTURES, *CAPTIONS])}")
    allowed = {"type", "size"} | (set() if kind in PICTURES else {"caption_of"})
    if wrong := sorted(set(entry) - allowed):
        raise _invalid_file(number, f"{str(wrong[0])[:64]} is not a field")
    return kind


def _size_of(number: int, entry: Mapping[str, Any], largest: int) -> int:
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= largest:
        raise _invalid_file(number, f"size must be a whole number from 1 to {largest:,}")
    return size


def _invalid_file(number: int, reason: str) -> InvalidRequest:
    return invalid(f"files[{number}]", reason)


def _check_sizes(listed: Sequence[Listed], pictures: Sequence[Listed]) -> None:
    if len(listed) > _MOST_OBJECTS or not 1 <= len(pictures) <= MOST_PICTURES:
        raise invalid(
            "dataset", f"must have 1 to {MOST_PICTURES} pictures; it has {len(pictures):,}"
        )
    for one in listed:
        largest = _LARGEST_METADATA if one.key == _METADATA else LARGEST_PICTURE
        if _ending(one.key) in _CAPTION_ENDINGS:
            largest = LARGEST_CAPTION
        if not 1 <= one.size <= largest:
            raise invalid("dataset", f"{one.key[:64]} must have 1 to {largest:,} bytes")
    if sum(one.size for one in listed) > LARGEST_SET:
        raise invalid("dataset", f"is larger than {LARGEST_SET:,} bytes")


def _caption(name: str, body: bytes) -> str:
    try:
        lines = (line.strip() for line in body.decode("utf-8-sig").splitlines())
        return CAPTION.clean(" ".join(line for line in lines if line))
    except UnicodeDecodeError as error:
        raise invalid("dataset", f"{name[:64]} is not UTF-8 text") from error
    except ValueError as error:
        raise invalid("dataset", f"the caption in {name[:64]} {error}") from error


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stem(name: str) -> str:
    """Return a file's name without the endings of a picture and of a caption."""
    path = PurePosixPath(name)
    for endings in (_CAPTION_ENDINGS, _ENDINGS):
        if path.suffix.lower() in endings:
            path = path.with_suffix("")
    return str(path)


def _digest(listed: Sequence[Listed]) -> str:
    rows = sorted(f"{one.key} {one.tag}" for one in listed)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
