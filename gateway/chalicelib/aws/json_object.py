"""A small object in S3 that many requests change at once: a counter without a database."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

from chalicelib.aws.s3 import Store

# The loser of a race waits a little, for a random time: in step the same requests would meet again.
_LONGEST_PAUSE = 0.05


class JsonObject:
    """One object, whose content is JSON.

    S3 replaces it only for a writer that has read its latest version, and the loser of a race reads
    again: so every change is made exactly once, and to what all earlier ones have left.

    Args:
        store: a part of a bucket.
        key: of the object.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key

    def read(self) -> Any:
        """Return its content, None if it does not exist; raises StoreUnavailable."""
        return self._read()[0]

    def change(self, changed: Callable[[Any], Any]) -> Any:
        """Change its content.

        Args:
            changed: returns the new content of the present one, which is None if the object does
                not exist; equal content is not written. It is called again after a lost race, and
                also where S3 has written the content and its response was lost: it has to find its
                own change then.

        Returns:
            The new content.

        Raises:
            StoreUnavailable: if S3 does not confirm it. It may have happened nevertheless.
        """
        while True:
            before, tag = self._read()
            after = changed(before)
            if after == before or self._write(after, tag):
                return after
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 (no secret)

    def _read(self) -> tuple[Any, str | None]:
        stored = self._store.read(self._key)
        return (json.loads(stored.body), stored.tag) if stored else (None, None)

    def _write(self, content: Any, tag: str | None) -> bool:
        body = json.dumps(content).encode()
        if tag is None:
            return self._store.create(self._key, body) is not None
        return self._store.replace(self._key, body, tag) is not None
