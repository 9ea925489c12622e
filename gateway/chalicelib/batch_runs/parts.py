"""Parts of a batch: a few lines that are claimed, queued and answered together.

    claims/<part>.json    who queues the pictures, until when a run of them can be alive, where they
                          come, and which were not queued or are refused
    decided/<part>.json   which of its lines have failed, and why; the first to decide is right
    results/<part>-...    the answers; written once all pictures of the part have come or failed

Whoever creates the claim queues the pictures; whoever replaces it queues what has to be queued
again. Both writes are conditional, so that no picture is queued twice at a time, whichever events
arrive twice or at once. A claim whose Lambda was lost ends by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chalicelib.aws.s3 import Store
from chalicelib.batches import places
from chalicelib.batches.lines import Line, Picture, read_lines, to_jsonl

# The pictures of a part are in memory at once, when its results are written.
PICTURES_OF_PART = 8


@dataclass(frozen=True)
class Part:
    """Where a part is.

    Attributes:
        number: of the part, from 0.
        first: the number of its first picture in the batch, from 0.
        pictures: how many it has.
        start: of its lines in the file of all lines, in bytes.
        end: of the first byte after them.
    """

    number: int
    first: int
    pictures: int
    start: int
    end: int


@dataclass(frozen=True)
class Sent:
    """The runs of a part's pictures; the numbers, as text, are those of pictures in the batch.

    Attributes:
        ends: when no run of it can be alive any more, in seconds since 1970.
        attempts: how often each was queued.
        asked: when each was claimed for the latest of these, in seconds since 1970.
        runs: where SageMaker writes, as it says: the addresses of picture and failure.
        unsent: what certainly was not queued.
        refused: what will not be, each with status, code, message and field.
    """

    ends: float
    attempts: Mapping[str, int] = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    unsent: tuple[int, ...] = ()
    refused: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the claim's content."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Sent:
        """Read the content of a claim."""
        read = json.loads(content)
        runs = {number: (one[0], one[1]) for number, one in read["runs"].items()}
        return cls(**{**read, "runs": runs, "unsent": tuple(read["unsent"])})


class Parts:
    """The parts of one batch.

    Args:
        store: with everything of batches.
        batch: its id.
    """

    def __init__(self, store: Store, batch: str) -> None:
        self._store = store
        self._batch = batch

    def write(self, lines: Sequence[Line]) -> None:
        """Store lines and parts, which are the same however often the file is read."""
        parts: list[Part] = []
        content = bytearray()
        first = 0
        for line in lines:
            start, pictures = len(content), len(line.pictures)
            content += to_jsonl([line])
            last = parts[-1] if parts else None
            if last and last.pictures + pictures <= PICTURES_OF_PART:
                parts[-1] = Part(
                    last.number, last.first, last.pictures + pictures, last.start, len(content)
                )
            else:
                parts.append(Part(len(parts), first, pictures, start, len(content)))
            first += pictures
        rows = [[one.first, one.pictures, one.start, one.end] for one in parts]
        self._store.write(places.lines(self._batch), bytes(content))
        self._store.write(places.parts(self._batch), json.dumps(rows).encode())

    def every(self) -> list[Part]:
        """Return all parts; none before they are written."""
        stored = self._store.read(places.parts(self._batch))
        rows = json.loads(stored.body) if stored else []
        return [Part(number, *row) for number, row in enumerate(rows)]

    def lines(self, part: Part) -> list[Line]:
        """Return the lines of a part."""
        content = self._store.read_part(places.lines(self._batch), part.start, part.end)
        return read_lines(content or b"")

    def claimed(self) -> set[int]:
        """Return the numbers of the parts that are claimed."""
        start = places.claims(self._batch)
        keys = [one.key.removeprefix(start) for one in self._store.listed(start)]
        return {int(key.removesuffix(".json")) for key in keys}

    def over(self) -> dict[int, tuple[int, int]]:
        """Return how many lines have succeeded and failed, by part that is answered."""
        found = [places.counts_of(one.key) for one in self._store.listed(self._results)]
        return {one[0]: one[1:] for one in found if one}

    def claim(self, part: Part, sent: Sent) -> str | None:
        """Claim a part; return the claim's tag, or None if another was first."""
        return self._store.create(places.claim(self._batch, part.number), sent.to_bytes())

    def claim_again(self, part: Part, sent: Sent, tag: str) -> str | None:
        """Replace a claim; return its tag, or None if another has replaced it."""
        return self._store.replace(places.claim(self._batch, part.number), sent.to_bytes(), tag)

    def sent(self, part: Part) -> tuple[Sent, str] | None:
        """Return the claim on a part and its tag; None if it is not claimed."""
        stored = self._store.read(places.claim(self._batch, part.number))
        return (Sent.from_bytes(stored.body), stored.tag) if stored else None

    def decide(
        self, part: Part, failed: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Mapping[str, Any]]:
        """Decide which lines have failed, unless another has, and return what is decided.

        Whether a batch is given up, and which pictures had come by then, may look different to two
        invocations; each line still has one answer.
        """
        key = places.decision(self._batch, part.number)
        if self._store.create(key, json.dumps(failed).encode()) is not None:
            return dict(failed)
        stored = self._store.read(key)
        return dict(json.loads(stored.body)) if stored else dict(failed)

    def answer(self, part: Part, succeeded: bytes, failed: bytes, counts: tuple[int, int]) -> None:
        """Store the results of a part. The second object is what says that it is over.

        Args:
            part: whose pictures have all come or failed.
            succeeded: its results with pictures, a line each.
            failed: its other results.
            counts: the number of either.
        """
        name = places.results_file(part.number, *counts)
        if failed:
            self._store.write(f"{places.failures(self._batch)}{name}", failed)
        self._store.write(f"{self._results}{name}", succeeded)

    @property
    def _results(self) -> str:
        return places.results(self._batch)


def numbered(part: Part, lines: Sequence[Line]) -> dict[int, Picture]:
    """Return the pictures of a part by their numbers in the batch."""
    pictures = [picture for line in lines for picture in line.pictures]
    return dict(enumerate(pictures, part.first))
