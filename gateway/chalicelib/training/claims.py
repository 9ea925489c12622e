"""What only one can have: an owner's running job, and an adapter's name.

Both are objects in S3 that are written on a condition, as `aws/s3.py` describes. Each says whose it
is, so that anyone who finds its job over can give it back: a Lambda that ends between two calls
leaves nothing that blocks the next request for ever.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.aws.s3 import Store

# A Lambda has written a job's record within 29 s of its claims, and SageMaker has the job.
STALE_SECONDS = 120


@dataclass(frozen=True)
class Claim:
    """What a claim says: the owner and the id of its job, since when, and the version of it."""

    owner: str
    id: str
    since: float
    tag: str


class Claims:
    """The claims of all owners.

    Args:
        store: the whole bucket.
        now: seconds since 1970.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    def read(self, key: str) -> Claim | None:
        """Return the claim at a key; one that cannot be read is nobody's, and can be replaced."""
        stored = self._store.read(key)
        if stored is None:
            return None
        fields = read_object(stored.body)
        since = fields.get("since")
        return Claim(
            str(fields.get("owner", "")),
            str(fields.get("id", "")),
            float(since) if isinstance(since, int | float) else 0.0,
            stored.tag,
        )

    def take(self, key: str, owner: str, identifier: str, over: Claim | None) -> bool:
        """Make a claim; False if another was faster.

        Args:
            key: of `places`.
            owner: of the job.
            identifier: of the job.
            over: the claim that it replaces, which has no job any more; None if there is none.
        """
        body = json.dumps({"owner": owner, "id": identifier, "since": self._now()}).encode()
        if over is None:
            return self._store.create(key, body) is not None
        return self._store.replace(key, body, over.tag) is not None

    def release(self, key: str, identifier: str) -> None:
        """Give a claim back, unless it is of another job."""
        claim = self.read(key)
        if claim is not None and claim.id == identifier:
            self._store.delete(key, claim.tag)

    def is_stale(self, claim: Claim, seconds: float = STALE_SECONDS) -> bool:
        """Whether whoever made a claim has had the time to start its job."""
        return claim.since < self._now() - seconds


def read_object(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a body, empty for any other body."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
