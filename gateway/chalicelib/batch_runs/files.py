"""Files of the API in S3: what callers upload, and the output of their batches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from chalicelib.aws.parallel import in_parallel
from chalicelib.aws.s3 import Store
from chalicelib.batches import places
from chalicelib.errors import BatchUnknown, RateLimited

# Of an owner, without the output of batches, so that no key fills the bucket.
MOST_FILES = 100
_LINK_SECONDS = 3_600
_UNNAMED = "unnamed.jsonl"
_DAY = 86_400


@dataclass(frozen=True)
class File:
    """What is known of a file.

    Attributes:
        id: 24 hexadecimal digits.
        name: as its owner calls it.
        purpose: `batch`, or `batch_output`.
        created: seconds since 1970.
        size: in bytes; 0 until it is uploaded.
        key: of its content.
        uploaded: whether the content is there.
    """

    id: str
    name: str
    purpose: str
    created: int
    size: int
    key: str
    uploaded: bool = True


class Files:
    """The files of all owners.

    Args:
        store: with everything of batches.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self, owner: str, name: str, content: bytes, purpose: str, now: float
    ) -> File:  # fmt: skip
        """Store a file, content first.

        Raises:
            RateLimited: if the owner has `MOST_FILES` already.
            StoreUnavailable: if S3 did not confirm it.
        """
        file = self._new(owner, name, purpose, now)
        self._store.write(file.key, content)
        return self.describe(owner, replace(file, size=len(content), uploaded=True))

    def expect(
        self, owner: str, name: str, size: int, purpose: str, now: float
    ) -> tuple[File, str]:  # fmt: skip
        """Return a file that is not there yet, and the URL to which it can be PUT for an hour.

        Raises:
            RateLimited: if the owner has `MOST_FILES` already.
            StoreUnavailable: if S3 did not confirm it.
        """
        file = self.describe(owner, self._new(owner, name, purpose, now))
        return file, self._store.upload_link(file.key, size, _LINK_SECONDS)

    def describe(self, owner: str, file: File) -> File:
        """Make a file known whose content is stored; raises StoreUnavailable."""
        self._store.write(places.described(owner, file.id), json.dumps(asdict(file)).encode())
        return file

    def find(self, owner: str, identifier: str) -> File:
        """Return a file; raises BatchUnknown for one of another owner, too."""
        file = self._read(owner, identifier) if places.is_id(identifier) else None
        if file is None:
            raise BatchUnknown("Unknown file.")
        return file

    def every(self, owner: str) -> list[str]:
        """Return the ids of an owner's files, the newest first; raises StoreUnavailable."""
        start = places.files(owner)
        names = [one.key.removeprefix(start) for one in self._store.listed(start)]
        return list(dict.fromkeys(name.partition(".")[0] for name in names))

    def read(self, owner: str, identifiers: list[str]) -> list[File]:
        """Return the files with these ids that are still there."""
        found = in_parallel(lambda one: self._read(owner, one), identifiers)
        return [file for file in found if file is not None]

    def content(self, file: File, longest: int) -> bytes | None:
        """Return a file's content; None if that is longer.

        Raises:
            BatchUnknown: if it was not uploaded, or is no longer stored.
            StoreUnavailable: if S3 does not return it.
        """
        stored = self._store.read(file.key, longest)
        if stored is None:
            raise BatchUnknown("The file has no content, or is no longer stored.")
        return stored.body if stored.size <= longest else None

    def link(self, file: File) -> str:
        """Return a URL of a file's content that is valid for an hour."""
        return self._store.link(
            file.key, _LINK_SECONDS, ResponseContentType="application/octet-stream"
        )

    def delete(self, owner: str, file: File) -> None:
        """Delete a file, content first; raises StoreUnavailable."""
        self._store.delete(file.key)
        self._store.delete(places.described(owner, file.id))

    def _new(self, owner: str, name: str, purpose: str, now: float) -> File:
        """Return a file that is not stored yet; raises as `expect`."""
        self._check_room(owner, now)
        identifier = places.new_id(now)
        key = places.content(owner, identifier)
        return File(identifier, name, purpose, int(now), 0, key, uploaded=False)

    def _check_room(self, owner: str, now: float) -> None:
        """Raise RateLimited if the owner can store no other file.

        Files count whose content is here, and those that may still be uploaded. What else has only
        a description is output, whose content is elsewhere, or was never uploaded.
        """
        start = places.files(owner)
        names = [one.key.removeprefix(start) for one in self._store.listed(start)]
        oldest = places.new_id(now - _LINK_SECONDS)  # newer ids sort before it
        counted = {
            identifier
            for identifier, _, ending in (name.partition(".") for name in names)
            if ending == "jsonl" or identifier < oldest
        }
        if len(counted) >= MOST_FILES:
            message = (
                f"This key has {MOST_FILES} files. Delete some that no batch needs any more"
                " (DELETE /v1/files/<id>, or files.delete); GET /v1/files lists them."
            )
            raise RateLimited(message, _DAY)

    def _read(self, owner: str, identifier: str) -> File | None:
        stored = self._store.read(places.described(owner, identifier))
        if stored is None:
            return self._undescribed(owner, identifier)
        described: Mapping[str, Any] = json.loads(stored.body)
        file = File(**described)
        if file.uploaded:
            return file
        size = self._store.size(file.key)
        return file if size is None else replace(file, size=size, uploaded=True)

    def _undescribed(self, owner: str, identifier: str) -> File | None:
        """Return a file that has nothing but content.

        A Lambda was lost before it wrote the description, or the file was deleted while its upload
        was in progress. It counts as any other, and so it can be found and deleted.
        """
        key, created = places.content(owner, identifier), places.created_at(identifier)
        size = self._store.size(key)
        return None if size is None else File(identifier, _UNNAMED, "batch", created, size, key)
