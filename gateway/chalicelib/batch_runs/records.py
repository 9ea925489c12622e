"""What is known of each batch: one object in S3, which every step changes conditionally."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from chalicelib.aws.json_object import JsonObject
from chalicelib.aws.s3 import Store
from chalicelib.batches import places
from chalicelib.errors import IdempotencyKeyReused

# OpenAI's only one.
WINDOW_SECONDS = 86_400


class Status(StrEnum):
    """The states of OpenAI's batches."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


# Why nothing more of a batch is queued, as the codes of the lines that were not run.
CANCELLED, EXPIRED = "batch_cancelled", "batch_expired"
_OVER = {Status.FAILED, Status.COMPLETED, Status.EXPIRED, Status.CANCELLED}


@dataclass(frozen=True)
class Batch:
    """A batch at one moment.

    Attributes:
        id: 24 hexadecimal digits.
        key: the name of the key that pays for it.
        file: the id of the input file.
        created: seconds since 1970.
        metadata: the caller's own.
        status: where it is.
        model: that generates all of its pictures; empty until the file is read.
        place: bucket and prefix where its pictures come; none until the file is read.
        lines: of the file.
        completed: lines, once they are no longer counted in S3.
        failed: likewise.
        errors: why the file is refused, as OpenAI reports it.
        ending: the status that it will have once the output is put together; empty before.
        output: the id of the output file, if there is one.
        error_output: the id of the file of the lines that failed, if there is one.
        moments: when it came to each status, in seconds since 1970.
    """

    id: str
    key: str
    file: str
    created: int
    metadata: Mapping[str, str] | None = None
    status: str = Status.VALIDATING
    model: str = ""
    place: tuple[str, str] | None = None
    lines: int = 0
    completed: int = 0
    failed: int = 0
    errors: tuple[Mapping[str, Any], ...] = ()
    ending: str = ""
    output: str | None = None
    error_output: str | None = None
    moments: Mapping[str, int] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """Whose it is, as a part of keys."""
        return places.owner_of(self.key)

    @property
    def expires(self) -> int:
        """When what is left is given up, in seconds since 1970."""
        return self.created + WINDOW_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in _OVER

    def giving_up(self, now: float) -> str:
        """Return why nothing more is queued, `CANCELLED` or `EXPIRED`; empty if something is."""
        if self.status == Status.CANCELLING:
            return CANCELLED
        return EXPIRED if now >= self.expires else ""

    def at(self, status: Status, now: float, **changes: Any) -> Batch:
        """Return it in another status."""
        moments = {**self.moments, str(status): int(now)}
        return replace(self, status=str(status), moments=moments, **changes)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Batch:
        """Read the content of the object."""
        place = content["place"] and tuple(content["place"])
        return cls(**{**content, "errors": tuple(content["errors"]), "place": place})


@dataclass(frozen=True)
class SentRequest:
    """A request that its sender may repeat, such as a client library after a lost response.

    Attributes:
        owner: as `places.owner_of` returns it.
        idempotency_key: the sender's name of the request.
        body: what it asks for.
    """

    owner: str
    idempotency_key: str
    body: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The SHA-256 of the body, whatever the order of its fields."""
        text = json.dumps(self.body, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class Batches:
    """The records of all batches.

    Args:
        store: with everything of batches.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, batch: Batch) -> None:
        """Store a new batch, unless it exists; raises StoreUnavailable.

        Its place in the lists is written first: a batch that nobody lists would never be continued.
        """
        self._store.write(places.owned(batch.owner, batch.id), b"")
        self._store.write(places.opened(batch.id), b"")
        # A request that is repeated while the first one is in progress has the same batch.
        self._store.create(places.record(batch.id), json.dumps(asdict(batch)).encode())

    def of_request(self, sent: SentRequest) -> str | None:
        """Return the id that an earlier request with the same Idempotency-Key has got, if any.

        Raises:
            IdempotencyKeyReused: if that request had another body.
            StoreUnavailable: if S3 does not say.
        """
        stored = self._store.read(places.requested(sent.owner, sent.idempotency_key))
        if stored is None:
            return None
        earlier = json.loads(stored.body)
        if earlier["digest"] != sent.digest:
            message = "Idempotency-Key: an earlier request with this key had another body"
            raise IdempotencyKeyReused(message, field="Idempotency-Key")
        return str(earlier["batch"])

    def remember(self, sent: SentRequest, identifier: str) -> str:
        """Return the id of a request's batch: this one, or that of a faster equal request.

        Raises:
            IdempotencyKeyReused: as `of_request`.
            StoreUnavailable: if S3 did not confirm it.
        """
        content = json.dumps({"batch": identifier, "digest": sent.digest}).encode()
        key = places.requested(sent.owner, sent.idempotency_key)
        if self._store.create(key, content) is None:
            return self.of_request(sent) or identifier
        return identifier

    def read(self, identifier: str) -> Batch | None:
        """Return a batch, or None if there is none; raises StoreUnavailable."""
        content = self._object(identifier).read()
        return None if content is None else Batch.from_dict(content)

    def change(self, identifier: str, changed: Callable[[Batch], Batch]) -> Batch:
        """Change a batch that exists, as `JsonObject.change`; `changed` may return it as it is."""

        def change(content: Any) -> Any:
            # As JSON reads it, so that equal content is not written again.
            return json.loads(json.dumps(asdict(changed(Batch.from_dict(content)))))

        return Batch.from_dict(self._object(identifier).change(change))

    def close(self, identifier: str) -> None:
        """Leave a batch that is over out of the list of those that are not."""
        self._store.delete(places.opened(identifier))

    def opened(self) -> list[str]:
        """Return the ids of the batches that are not over; raises StoreUnavailable."""
        start = places.opened()
        return [one.key.removeprefix(start) for one in self._store.listed(start)]

    def owned(self, owner: str) -> list[str]:
        """Return the ids of an owner's batches, the newest first; raises StoreUnavailable."""
        start = places.owned(owner)
        return [one.key.removeprefix(start) for one in self._store.listed(start)]

    def _object(self, identifier: str) -> JsonObject:
        return JsonObject(self._store, places.record(identifier))
