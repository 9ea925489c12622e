"""How many pictures each signed link has had: one small object in S3 for each link.

It has the ids of the link's pictures, each with the number of runs that were started for it. S3
replaces it only for a writer that has read its latest version, and the loser of a race reads again:
so exactly as many pictures are granted as the link's quota allows, however many requests arrive at
once.

The same request, sent again, is the same picture: it is charged once. But a real-time endpoint
generates it again each time, so that is allowed a few times only.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping

from chalicelib.aws.s3 import Store
from chalicelib.errors import RateLimited
from chalicelib.web.principal import Link

# The first, and two more for a connection that broke or a page that was loaded again.
RUNS_PER_PICTURE = 3
MOST_PICTURES = 1_000
# The loser of a race waits a little, for a random time: in step the same requests would meet again.
_LONGEST_PAUSE = 0.05


class LinkQuota:
    """The quotas of all links.

    Args:
        store: a part of a bucket that nothing else writes to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def spend(self, link: Link, picture: str) -> int:
        """Charge a picture to a link, unless this very picture was charged before.

        Args:
            link: one with a quota.
            picture: the id of the request, the same for the same request.

        Returns:
            The number of pictures that are left.

        Raises:
            RateLimited: if there are none left, or this one has had as many runs as allowed.
            StoreUnavailable: if S3 does not confirm it; no run is started then.
        """
        most = link.pictures or 0
        while True:
            runs, tag = self._read(link)
            _check(link, runs, picture)
            runs[picture] = runs.get(picture, 0) + 1
            if self._write(link, runs, tag):
                return most - len(runs)

    def check(self, link: Link, picture: str) -> None:
        """Raise what `spend` would raise, and charge nothing."""
        _check(link, self._read(link)[0], picture)

    def refund(self, link: Link, picture: str) -> None:
        """Undo a `spend` for a picture that certainly never reached a GPU."""
        while True:
            runs, tag = self._read(link)
            if picture not in runs:
                return
            runs[picture] -= 1
            if not runs[picture]:
                del runs[picture]
            if self._write(link, runs, tag):
                return

    def _read(self, link: Link) -> tuple[dict[str, int], str | None]:
        stored = self._store.read(_key(link))
        return (json.loads(stored.body), stored.tag) if stored else ({}, None)

    def _write(self, link: Link, runs: dict[str, int], tag: str | None) -> bool:
        body = json.dumps(runs).encode()
        if tag is None:
            written = self._store.create(_key(link), body)
        else:
            written = self._store.replace(_key(link), body, tag)
        if written is None:
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 (no secret)
        return written is not None


def _key(link: Link) -> str:
    return f"{link.id}.json"


def _check(link: Link, runs: Mapping[str, int], picture: str) -> None:
    if picture not in runs and len(runs) >= (link.pictures or 0):
        raise _refusal(link, "This link has no pictures left.")
    if runs.get(picture, 0) >= RUNS_PER_PICTURE:
        raise _refusal(link, "This link has generated this picture as often as allowed.")


def _refusal(link: Link, message: str) -> RateLimited:
    return RateLimited(message, max(link.expires - int(time.time()), 1))
