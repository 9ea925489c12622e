"""How many pictures each signed link has had: one small object in S3 for each link.

It holds the ids of the link's pictures, each with how often the model was asked for it. S3 replaces
it only for who has read its latest version, and whoever comes second reads again: so exactly as
many pictures are given out as the link is good for, however many visitors ask at once.

The same request, resent, is the same picture: it is paid for once. But a real-time endpoint paints
it anew each time, so that is allowed a few times only.
"""

from __future__ import annotations

import json
import random
import time

from chalicelib.aws.s3 import Store
from chalicelib.errors import RateLimited
from chalicelib.web.principal import Link

# The first, and two more for a connection that broke or a page that was loaded again.
RUNS_PER_PICTURE = 3
MOST_PICTURES = 1_000
# Whoever lost a race waits a little, each as long as chance says: in step they would meet again.
_LONGEST_PAUSE = 0.05


class Ledger:
    """The accounts of all links.

    Args:
        store: a part of a bucket that nobody else writes to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def spend(self, link: Link, picture: str) -> int:
        """Take a picture from a link, unless it was taken for this very picture before.

        Args:
            link: one with a number of pictures.
            picture: the id of the request, the same for the same request.

        Returns:
            How many pictures are left.

        Raises:
            RateLimited: if there are none left, or this one was painted as often as it may be.
            StoreUnavailable: if S3 does not tell; nothing is painted then.
        """
        most = link.pictures or 0
        while True:
            runs, tag = self._read(link)
            if picture not in runs and len(runs) >= most:
                raise _refusal(link, "This link has no pictures left.")
            if runs.get(picture, 0) >= RUNS_PER_PICTURE:
                raise _refusal(link, "This link has had this picture painted often enough.")
            runs[picture] = runs.get(picture, 0) + 1
            if self._write(link, runs, tag):
                return most - len(runs)

    def give_back(self, link: Link, picture: str) -> None:
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
        found = self._store.read(_account(link))
        return (json.loads(found.body), found.tag) if found else ({}, None)

    def _write(self, link: Link, runs: dict[str, int], tag: str | None) -> bool:
        body = json.dumps(runs).encode()
        if tag is None:
            written = self._store.create(_account(link), body)
        else:
            written = self._store.replace(_account(link), body, tag)
        if written is None:
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 (no secret)
        return written is not None


def _account(link: Link) -> str:
    return f"{link.id}.json"


def _refusal(link: Link, message: str) -> RateLimited:
    return RateLimited(message, max(link.expires - int(time.time()), 1))
