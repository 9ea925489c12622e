"""The folder of a batch: pictures, `results.jsonl`, and a journal to continue from.

    <name>.png      each picture; it has this name only when all of it is written
    results.jsonl   a line for each line of the file, in the shape of OpenAI's batch output
    .batch.jsonl    what was queued and stored; it is locked while a process works on the folder

A process can end between any two writes. A picture that is there without its line in the journal is
fetched or painted again; a line of the journal that is cut is left out.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from endpoint.core.batches import results
from endpoint.core.batches.lines import Line, Picture
from endpoint.core.problems import BadArgument

RESULTS, JOURNAL, SHEET = "results.jsonl", ".batch.jsonl", "contact-sheet.png"


@dataclass(frozen=True)
class Queued:
    """A request that was, or may have been, queued at an asynchronous endpoint.

    Attributes:
        at: when, in seconds since 1970.
        output: where SageMaker stores its picture; None if the process ended before it knew.
        failure: where it stores the reason of a failure.
    """

    at: float
    output: str | None = None
    failure: str | None = None


@dataclass
class Notes:
    """What the journal says.

    Attributes:
        stored: the digests and the bytes of stored pictures, by the names of their files.
        queued: the latest request for each file of an endpoint's output, with the model's version.
        most: the endpoint's limit of instances before the batch changed it.
    """

    stored: dict[str, tuple[str, int]] = field(default_factory=dict)
    queued: dict[str, Queued] = field(default_factory=dict)
    most: int | None = None

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take one line of the journal."""
        if "stored" in entry:
            self.stored[entry["stored"]] = entry["digest"], entry["bytes"]
        elif "queued" in entry:
            self.queued[entry["queued"]] = Queued(
                float(entry["at"]), entry.get("output"), entry.get("failure")
            )
        elif "ended" in entry:
            self.queued.pop(entry["ended"], None)
        elif "most" in entry:
            self.most = entry["most"]


class Folder:
    """The folder of one batch, which this process alone works on.

    Args:
        path: of the folder, which exists.
        lines: of the batch.
        journal: open for appending, and locked.
    """

    def __init__(self, path: Path, lines: Sequence[Line], journal: IO[bytes]) -> None:
        self.path, self.lines = path, lines
        self._journal = journal
        self.notes = _read_notes(path)
        self.results = {
            identifier: result
            for identifier, result in _read_results(path, lines).items()
            # What failed is tried again.
            if results.is_success(result)
        }
        self._clean()

    def has(self, picture: Picture) -> bool:
        """Whether a picture of this request is stored, and its file is as long as it was then."""
        digest, size = self.notes.stored.get(picture.file, ("", -1))
        if digest != picture.digest:
            return False
        try:
            # Reading tens of thousands of pictures would take minutes.
            return (self.path / picture.file).stat().st_size == size
        except OSError:
            return False

    def others(self) -> list[str]:
        """Return the files of other requests that this batch would replace."""
        return [
            picture.file
            for line in self.lines
            for picture in line.pictures
            if (self.path / picture.file).exists()
            and self.notes.stored.get(picture.file, ("", 0))[0] != picture.digest
        ]

    def store(self, picture: Picture, body: bytes) -> None:
        """Write a picture."""
        unfinished = self.path / f".{picture.file}.part"
        unfinished.write_bytes(body)
        unfinished.replace(self.path / picture.file)
        self.note({"stored": picture.file, "digest": picture.digest, "bytes": len(body)})

    def finish(self, line: Line, result: dict[str, Any]) -> None:
        """Write the result of a line, which has none yet."""
        self.results[line.custom_id] = result
        with (self.path / RESULTS).open("ab") as file:
            file.write(results.to_jsonl([result]))

    def note(self, entry: Mapping[str, Any]) -> None:
        """Append a line to the journal."""
        self.notes.add(entry)
        self._journal.write(f"{json.dumps(entry)}\n".encode())
        self._journal.flush()

    def _clean(self) -> None:
        """Leave only whole results of lines as they are now, and no unfinished picture."""
        for unfinished in self.path.glob(".*.part"):
            unfinished.unlink()
        pictures = {line.custom_id: line.pictures for line in self.lines}
        self.results = {
            identifier: result
            for identifier, result in self.results.items()
            if all(map(self.has, pictures[identifier]))
        }
        replacement = self.path / f".{RESULTS}.part"
        replacement.write_bytes(results.to_jsonl(self.results.values()))
        replacement.replace(self.path / RESULTS)


@contextmanager
def opened(path: Path, lines: Sequence[Line]) -> Iterator[Folder]:
    """Open a folder for a batch, and create it if it does not exist.

    Raises:
        BadArgument: if another process works on it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / JOURNAL).open("ab") as journal:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadArgument(
                f"Another process is painting into {path}.", "Wait for it, or choose another --out."
            ) from error
        # A crash can have cut the last line; the next one must not continue it.
        if journal.tell() and not (path / JOURNAL).read_bytes().endswith(b"\n"):
            journal.write(b"\n")
        yield Folder(path, lines, journal)


def _read_notes(path: Path) -> Notes:
    notes = Notes()
    for row in (path / JOURNAL).read_text("utf-8", errors="replace").splitlines():
        try:
            notes.add(json.loads(row))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return notes


def _read_results(path: Path, lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    try:
        return results.read((path / RESULTS).read_bytes(), lines)
    except FileNotFoundError:
        return {}
