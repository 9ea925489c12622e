"""The output of a batch, put together of its parts' results.

S3 copies what is larger than 5 MiB by itself; smaller results are read and stored together, because
no part of an upload but the last may be smaller. What is stored is not done again: a lost Lambda
costs one part of an upload.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from chalicelib.aws.parallel import in_parallel
from chalicelib.aws.s3 import Listed, Store
from chalicelib.batches import places

_SMALLEST_PART = 5 * 2**20
_TYPE = "application/jsonl"
OUTPUT, ERRORS = "output", "errors"


class Output:
    """The two files of a batch.

    Args:
        store: with everything of batches.
        batch: its id.
        check_time: raises if there is no time for another call.
    """

    def __init__(self, store: Store, batch: str, check_time: Callable[[], None]) -> None:
        self._store = store
        self._batch = batch
        self._check_time = check_time

    def put_together(self) -> dict[str, int]:
        """Make the files, and return their sizes in bytes by name; none that would be empty.

        Raises:
            StoreUnavailable: if S3 did not confirm it; doing it again does the rest.
        """
        sources = {
            OUTPUT: self._listed(places.results(self._batch)),
            ERRORS: self._listed(places.failures(self._batch)),
        }
        return {name: self._make(name, found) for name, found in sources.items() if found}

    def _listed(self, prefix: str) -> list[Listed]:
        return [one for one in self._store.listed(prefix) if one.size]

    def _make(self, name: str, sources: Sequence[Listed]) -> int:
        key, size = places.finished(self._batch, name), sum(one.size for one in sources)
        if self._store.size(key) == size:
            return size
        groups = _groups(sources)
        if len(groups) == 1:
            self._check_time()
            self._store.write(key, self._joined(groups[0]))
            return size
        upload = self._upload(name, key)
        tags = self._store.uploaded_parts(key, upload)
        if tags is None and self._store.size(key) == size:
            return size  # another Lambda was as far
        tags = tags or {}
        for number, group in enumerate(groups, 1):
            if number not in tags:
                self._check_time()
                tags[number] = self._part(key, upload, number, group)
        self._store.end_upload(key, upload, tags)
        return size

    def _part(self, key: str, upload: str, number: int, group: Sequence[Listed]) -> str:
        if len(group) == 1:
            return self._store.copy_part(key, upload, number, group[0].key)
        return self._store.upload_part(key, upload, number, self._joined(group))

    def _joined(self, group: Sequence[Listed]) -> bytes:
        # Of a batch that was cancelled, a group has thousands of small objects.
        found = in_parallel(lambda one: self._store.read(one.key), group)
        return b"".join(one.body for one in found if one)

    def _upload(self, name: str, key: str) -> str:
        """Return the name of the upload, which all Lambdas use that put the file together."""
        place = f"{places.plan(self._batch)}.{name}"
        while True:
            stored = self._store.read(place)
            if stored is not None:
                return str(json.loads(stored.body)["upload"])
            upload = self._store.begin_upload(key, _TYPE)
            # Of two, one is used; the bucket's rule ends the other.
            self._store.create(place, json.dumps({"upload": upload}).encode())


def _groups(sources: Sequence[Listed]) -> list[list[Listed]]:
    """Return what makes each part of an upload; only the last is smaller than allowed."""
    groups: list[list[Listed]] = [[]]
    for one in sources:
        if sum(other.size for other in groups[-1]) >= _SMALLEST_PART:
            groups.append([])
        groups[-1].append(one)
    return groups
