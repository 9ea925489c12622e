"""Claims: which request starts the run of a picture. S3 is their only store, and their only lock.

    records/<digest>.json    what was requested, and until when a run may be in progress

A picture's id is a hash of the completed request and the model's revision, so the same request
always leads to the same record; of a model that takes no seed, chance is in it as well, and each
request has a record of its own. Whoever creates the record, or replaces one that has ended, has
claimed the run; every other request finds the claim. A claim ends by itself when no run of it can
be alive any more: so a claim whose owner died, at whatever moment, neither runs twice nor waits for
ever.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from chalicelib.aws.deadline import ending
from chalicelib.aws.s3 import Store
from chalicelib.generation import GenerationRequest
from chalicelib.images.resolved_request import ResolvedRequest


@dataclass(frozen=True)
class Claim:
    """The content of a record: the latest claim on the run of its picture.

    Attributes:
        owner: identifies the request that made the claim.
        attempt: the number of claims so far.
        asked: when this one was made, in seconds since 1970.
        ends: when no run of it can be alive any more.
        failure: where SageMaker will write the reason of a failure; None until it is queued.
        given_up: whether it certainly has no run.
        output: where SageMaker will write the picture; None until it is queued, and in records of
            versions that did not store it.
        earlier_failure: where it wrote, or would have written, the failure of an earlier run.
    """

    request: dict[str, Any]
    revision: str
    owner: str
    attempt: int
    asked: float
    ends: float
    failure: str | None = None
    given_up: bool = False
    output: str | None = None
    earlier_failure: str | None = None

    def to_bytes(self) -> bytes:
        """Return the record's content."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Claim:
        """Read a record, of a newer version too."""
        names = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in json.loads(content).items() if key in names})


@dataclass(frozen=True)
class Record:
    """A picture's record in S3.

    Attributes:
        id: the picture's.
        request: what was requested.
        claim: its content.
        tag: identifies this version of it, so that only its reader can replace it.
    """

    id: str
    request: GenerationRequest
    claim: Claim
    tag: str


class Claims:
    """The claims on the pictures of one model.

    Args:
        store: the model's own part of the bucket.
        longest: how many seconds after a claim its run can be alive at most.
        now: seconds since 1970.
    """

    def __init__(self, store: Store, longest: float, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._longest = longest
        self._now = now

    def read(self, identifier: str) -> Record | None:
        """Return a picture's record, or None if there is none; raises StoreUnavailable."""
        stored = self._store.read(_key(identifier))
        if stored is None:
            return None
        claim = Claim.from_bytes(stored.body)
        return Record(identifier, GenerationRequest.from_dict(claim.request), claim, stored.tag)

    def claim(self, resolved: ResolvedRequest, owner: str, over: Record | None) -> Record | None:
        """Claim the run of a request.

        Args:
            resolved: the request.
            owner: identifies the claimant, which finds its claim by this name should S3 write it
                and the response to that be lost.
            over: the record of a picture whose last run is over; None if there is no record.

        Returns:
            The new record; None if another request claimed the run first.

        Raises:
            StoreUnavailable: if S3 did not confirm the claim. It may be written nevertheless.
        """
        now = self._now()
        claim = Claim(
            request=resolved.request.to_dict(),
            revision=resolved.model.revision,
            owner=owner,
            attempt=1 if over is None else over.claim.attempt + 1,
            asked=now,
            ends=now + self._longest,
            earlier_failure=over.claim.failure or over.claim.earlier_failure if over else None,
        )
        key, body = _key(resolved.id), claim.to_bytes()
        if over is None:
            # Both writes are conditional: of two requests at once, exactly one gets a tag.
            tag = self._store.create(key, body)
        else:
            tag = self._store.replace(key, body, over.tag)
        return None if tag is None else Record(resolved.id, resolved.request, claim, tag)

    def is_alive(self, claim: Claim) -> bool:
        """Whether a run of the claim may be in progress."""
        return not claim.given_up and self._now() <= claim.ends

    def rewrite(self, record: Record, claim: Claim) -> Record:
        """Change a record, unless another request has replaced it, and return the new version.

        Raises:
            StoreUnavailable: if S3 did not confirm it.
        """
        # Losing this race is harmless: another claim describes a newer run.
        with ending():
            tag = self._store.replace(_key(record.id), claim.to_bytes(), record.tag)
        return replace(record, claim=claim, tag=tag or record.tag)

    def give_up(self, record: Record) -> Record:
        """End a claim that certainly has no run, so that the next request can claim one."""
        return self.rewrite(record, replace(record.claim, given_up=True))

    def forget(self, record: Record) -> None:
        """Delete a record, unless another request has replaced it; raises StoreUnavailable."""
        self._store.delete(_key(record.id), record.tag)


def digest_of(identifier: str) -> str:
    """Return the part of a picture's id that names its objects."""
    return identifier.rpartition("-")[2]


def _key(identifier: str) -> str:
    return f"records/{digest_of(identifier)}.json"
