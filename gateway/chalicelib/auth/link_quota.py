"""How many pictures each signed link has had: one small object in S3 for each link.

It has the ids of the link's pictures, each with the number of runs that were started for it.
Changes of it exclude each other (`aws/json_object.py`), so that exactly as many pictures are
granted as the link's quota allows, however many requests arrive at once.

The same request, sent again, is the same picture: it is charged once. But a real-time endpoint
generates it again each time, so that is allowed a few times only. Of a model that takes no seed,
each request is another picture, and is charged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from chalicelib.aws.json_object import JsonObject
from chalicelib.aws.s3 import Store
from chalicelib.errors import RateLimited
from chalicelib.web.principal import Link

# The first, and two more for a connection that broke or a page that was loaded again.
RUNS_PER_PICTURE = 3
MOST_PICTURES = 1_000


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
            picture: the id of the resolved request, or what the URL of one picture names.

        Returns:
            The number of pictures that are left.

        Raises:
            RateLimited: if there are none left, or this one has had as many runs as allowed.
            StoreUnavailable: if S3 does not confirm it; no run is started then.
        """

        def spent(runs: Mapping[str, int] | None) -> dict[str, int]:
            runs = runs or {}
            _check(link, runs, picture)
            return {**runs, picture: runs.get(picture, 0) + 1}

        return (link.pictures or 0) - len(self._runs(link).change(spent))

    def check(self, link: Link, picture: str) -> None:
        """Raise what `spend` would raise, and charge nothing."""
        _check(link, self._runs(link).read() or {}, picture)

    def refund(self, link: Link, picture: str) -> None:
        """Undo a `spend` for a picture that certainly never reached a GPU."""

        def refunded(runs: Mapping[str, int] | None) -> Mapping[str, int] | None:
            if runs is None or picture not in runs:
                return runs
            left = {**runs, picture: runs[picture] - 1}
            return {name: number for name, number in left.items() if number}

        self._runs(link).change(refunded)

    def _runs(self, link: Link) -> JsonObject:
        return JsonObject(self._store, f"{link.id}.json")


def _check(link: Link, runs: Mapping[str, int], picture: str) -> None:
    if picture not in runs and len(runs) >= (link.pictures or 0):
        raise _refusal(link, "This link has no pictures left.")
    if runs.get(picture, 0) >= RUNS_PER_PICTURE:
        raise _refusal(link, "This link has generated this picture as often as allowed.")


def _refusal(link: Link, message: str) -> RateLimited:
    return RateLimited(message, max(link.expires - int(time.time()), 1))
