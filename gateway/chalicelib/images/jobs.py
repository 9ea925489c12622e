"""Jobs: pictures that are stored, and those that a run is in progress for.

    (a key that SageMaker names)     the picture, or why there is none; SageMaker writes them
    outputs/<digest>/picture.<ext>   the picture of a real-time endpoint, which the gateway writes;
                                     also SageMaker's, as long as its response is not known

A job is what the record of its claim (`claims.py`) and these objects say of it. Its run is either
queued at an asynchronous endpoint, or done by the request that claimed it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from chalicelib.aws.deadline import Deadline, ending, sharing
from chalicelib.aws.s3 import Store
from chalicelib.aws.sagemaker import AsyncEndpoint, QueuedRun, QueueTimeouts, failure_of
from chalicelib.backends.backend import Backend
from chalicelib.backends.setting import EASEL
from chalicelib.errors import (
    CallerFault,
    EndpointFailed,
    GatewayError,
    JobExpired,
    JobUnknown,
    MayHaveReachedGpu,
    StoreUnavailable,
)
from chalicelib.generation import GenerationRequest
from chalicelib.image_files import LARGEST_PICTURE, check_picture, compressed
from chalicelib.images.claims import Claim, Claims, Record, digest_of
from chalicelib.images.resolved_request import ResolvedRequest
from chalicelib.telemetry import logger

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.1, 2.0, 1.4
# The last poll is this long before the deadline, or a quarter of a short wait: S3 needs time too.
_LAST_POLL, _SHORTEST_PAUSE = 0.5, 0.01
# A failure is rarer than a picture, and finding one takes two more calls to S3.
_POLLS_PER_FAILURE_CHECK = 4
# How far the clocks of Lambda and S3 may differ. A claim ends 60 s after its last run can fail.
_CLOCKS_DIFFER = 30
_LINK_SECONDS = 3_600
# 1,536 x 1,536 pixels of 3 bytes, without compression, and the parameters next to them.
_LARGEST_UNCOMPRESSED = 8_000_000
Result = TypeVar("Result")
# The model's name, and the 32 hexadecimal digits of `job_id`.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}-[0-9a-f]{32}")


class State(StrEnum):
    """The state of a job that has a record."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"


class UnreadableLocation(EndpointFailed):
    """The picture is queued, and cannot be read when it comes: to queue it again would not help."""


@dataclass(frozen=True)
class Finished:
    """A finished picture: its bytes, or the URL of one that does not fit Lambda's response."""

    body: bytes
    link: str | None = None


@dataclass(frozen=True)
class Job:
    """A job at one moment.

    Attributes:
        waited: seconds since it was requested.
        attempt: the number of runs that were claimed for it.
        output: the key of its picture.
        error: why it failed, or that it expired; None otherwise.
        picture: its picture, once that was read.
    """

    id: str
    state: State
    request: GenerationRequest
    waited: float
    attempt: int
    output: str
    error: GatewayError | None = None
    picture: Finished | None = None

    @property
    def is_over(self) -> bool:
        """Whether a new request starts a new run: the last one was lost, or failed by accident."""
        if self.state is State.FAILED:
            return not isinstance(self.error, CallerFault)
        return self.state is State.EXPIRED


def model_of(identifier: str) -> str:
    """Return the name of the model in a job's id; raises JobUnknown for any other text."""
    # The id becomes part of an S3 key, so nothing else may pass.
    if not _ID.fullmatch(identifier):
        raise JobUnknown("Unknown job.")
    return identifier.rpartition("-")[0]


class Jobs:
    """The jobs of one model.

    Args:
        store: the model's own part of the bucket.
        claims: those of the model.
        endpoint: its asynchronous endpoint, which writes below `outputs/` in that part; None if it
            has a real-time endpoint only.
        timeouts: how long a request may be queued and may run.
        now: seconds since 1970.
        sleep: lets seconds pass.

    Attributes:
        claims: decide which request starts a run.
    """

    def __init__(
        self,
        store: Store,
        claims: Claims,
        endpoint: AsyncEndpoint | None = None,
        timeouts: QueueTimeouts | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.claims = claims
        self._store = store
        self._endpoint = endpoint
        self._timeouts = timeouts or QueueTimeouts()
        self._now = now
        self._sleep = sleep

    # --- What is stored ---------------------------------------------------------------------------

    def find(self, identifier: str) -> Job:
        """Return a job by its id.

        Raises:
            JobUnknown: if there is no record of it.
            StoreUnavailable: if S3 returns neither.
        """
        record = self.claims.read(identifier)
        if record is None:
            raise JobUnknown("Unknown job.")
        return self.job(record)

    def job(self, record: Record) -> Job:
        """Return the job of a record, in its present state.

        Raises:
            EndpointFailed: as `queued`, for as long as the run may be in progress.
            StoreUnavailable: if S3 does not say.
        """
        if self._now() <= record.claim.ends:
            check_locations(self._store, record.claim.output, record.claim.failure)
        job = self._waiting(record)
        # The picture is looked for first: a run that was given up as lost may still have finished.
        if self._store.size(job.output) is not None:
            return replace(job, state=State.DONE)
        reason = self._failure(record.claim)
        if reason is not None:
            return replace(job, state=State.FAILED, error=reason)
        if not self.claims.is_alive(record.claim):
            lost = JobExpired("The picture was lost, or is no longer stored. Request it again.")
            return replace(job, state=State.EXPIRED, error=lost)
        return job

    def picture(self, job: Job) -> Finished | None:
        """Return the picture of a job, or None if there is none.

        Raises:
            BadPicture: if what SageMaker wrote is not a complete picture.
        """
        return self._read_picture(job.output, job.request.file_format)

    def stored_picture(self, resolved: ResolvedRequest) -> Finished | None:
        """Return the picture of a request that may have one; otherwise as `picture`."""
        if self._endpoint is None:
            # Only SageMaker may choose another place, which is in the record: one call is enough.
            request = resolved.request
            return self._read_picture(_picture_key(resolved.id, request), request.file_format)
        record = self.claims.read(resolved.id)
        return self.picture(self._waiting(record)) if record else None

    def wait(self, job: Job, deadline: Deadline) -> Job:
        """Return the job with its picture, as soon as it is there, or the job at the deadline.

        S3 is polled after 0.1 s and then in growing pauses, of at most two seconds, and a last time
        shortly before the deadline; not at once, because the state of a job that waits has only
        just been read.
        """
        if job.state is State.DONE and job.picture is None:
            return replace(job, picture=self.picture(job))
        pause, polls = _FIRST_PAUSE, 0
        reserve = min(_LAST_POLL, deadline.remaining / 4)
        while job.state is State.WAITING:
            left = deadline.remaining - reserve
            if left < _SHORTEST_PAUSE:
                break
            self._sleep(min(pause, left))
            pause, polls = min(pause * _GROWTH, _LONGEST_PAUSE), polls + 1
            if polls % _POLLS_PER_FAILURE_CHECK == 0:
                job = self._before(deadline, self._latest, job) or job
            picture = self._before(deadline, self.picture, job)
            if picture is not None:
                return replace(job, state=State.DONE, error=None, picture=picture)
        return job

    def remove(self, identifier: str, request: GenerationRequest | None = None) -> bool:
        """Delete a picture, and its record with what was requested.

        Args:
            identifier: the picture's.
            request: what it was made of, if that is known: its record can have expired first.

        Returns:
            Whether there was a picture.

        Raises:
            StoreUnavailable: if S3 did not confirm it; deleting it again does the rest.
        """
        record = self.claims.read(identifier)
        request = record.request if record else request
        if request is None:
            return False
        key = self._waiting(record).output if record else _picture_key(identifier, request)
        is_stored = self._store.size(key) is not None
        if is_stored:
            # First: without its picture, a claim that has not ended would be waited for.
            record = self.claims.give_up(record) if record else None
            self._store.delete(key)
        # Also what a deletion that was interrupted has left.
        if record is not None and record.claim.given_up:
            self.claims.forget(record)
        return is_stored

    # --- A claimed run ----------------------------------------------------------------------------

    def keep(self, record: Record, body: bytes) -> Job:
        """Store the picture of a run that the request did itself, and return the finished job.

        It has its picture even if S3 does not store it: then the next request starts a run.
        """
        try:
            with ending():
                self._store.write(_picture_key(record.id, record.request), body)
        except StoreUnavailable:
            logger.warning("picture not stored", extra={"job": record.id})
            with suppress(StoreUnavailable):  # the claim ends by itself, later
                self.claims.give_up(record)
        return replace(self._waiting(record), state=State.DONE, picture=Finished(body))

    def forget_failure(self, record: Record) -> None:
        """Delete what SageMaker wrote about the run before a claimed one.

        That its name is another one for each run is not documented, and a failure that stays there
        would make the new run look failed as soon as it is queued: `failure_at` can only ignore one
        that is older than the new claim.

        Raises:
            StoreUnavailable: if S3 did not confirm the deletion.
        """
        key = self._store.key_of(record.claim.earlier_failure)
        if key:
            self._store.delete(key)

    def submit(self, record: Record, trace: str, changed: int | None = None) -> QueuedRun:
        """Queue a claimed run at the asynchronous endpoint.

        Args:
            record: of the claim.
            trace: an identifier for the container's log.
            changed: when the file of one of its adapters was changed last, if it has any.

        Returns:
            Where SageMaker says that it will write; nothing, if its response was lost.

        Raises:
            GatewayError: if the endpoint certainly does not take it.
        """
        if self._endpoint is None:
            raise TypeError("a model without an asynchronous endpoint")
        folder, _, file = _picture_key(record.id, record.request).rpartition("/")
        folder = folder.removeprefix("outputs/")
        try:
            return self._endpoint.submit(
                record.request, folder, file, self._timeouts, trace, changed
            )
        except MayHaveReachedGpu:
            # It may run: the claim holds until it ends by itself.
            return QueuedRun()

    def queued(self, record: Record, run: QueuedRun) -> Job:
        """Record where SageMaker writes, and return the job of a run that was queued.

        Raises:
            EndpointFailed: if that is outside the part of the bucket that the gateway can read.
        """
        claim = replace(record.claim, output=run.output, failure=run.failure)
        if claim != record.claim:
            self.claims.rewrite(record, claim)
        check_locations(self._store, claim.output, claim.failure)
        return self._waiting(replace(record, claim=claim))

    def _latest(self, job: Job) -> Job:
        return self.find(job.id)

    def _before(
        self, deadline: Deadline, look: Callable[[Job], Result | None], job: Job
    ) -> Result | None:
        try:
            with sharing(deadline):
                return look(job)
        except StoreUnavailable:
            if deadline.remaining > 0:
                raise
            return None

    def _read_picture(self, key: str, format: str) -> Finished | None:  # noqa: A002
        is_compressed = self._backend.abilities.compressed
        longest = LARGEST_PICTURE if is_compressed else _LARGEST_UNCOMPRESSED
        stored = self._store.read(key, longest)
        if stored is None:
            return None
        if stored.size <= longest:
            check_picture(stored.body, format)
            is_large = stored.size > LARGEST_PICTURE
            body = compressed(stored.body) if is_large else stored.body
            if len(body) <= LARGEST_PICTURE:
                return Finished(body)
        # SageMaker does not document which type the object in S3 has, so the link sets it.
        link = self._store.link(key, _LINK_SECONDS, ResponseContentType=f"image/{format}")
        return Finished(b"", link)

    def _failure(self, claim: Claim) -> GatewayError | None:
        return failure_at(self._store, claim.failure, claim.asked, self._backend)

    @property
    def _backend(self) -> Backend:
        return self._endpoint.backend if self._endpoint else EASEL

    def _waiting(self, record: Record) -> Job:
        """Return the job of a record that waits, as each does until S3 says otherwise."""
        claim = record.claim
        return Job(
            record.id,
            State.WAITING,
            record.request,
            waited=max(self._now() - claim.asked, 0),
            attempt=claim.attempt,
            output=self._store.key_of(claim.output) or _picture_key(record.id, record.request),
        )


def failure_at(
    store: Store, location: str | None, since: float, backend: Backend
) -> GatewayError | None:
    """Return why a run failed, or None while it has not.

    Args:
        store: has the location.
        location: where SageMaker says that it writes the reason; None if its response was lost.
        since: when the run was claimed, in seconds since 1970. What was written before is of an
            earlier run, whose location was never known, or whose record is gone.
        backend: what answers in the endpoint's container.

    Raises:
        StoreUnavailable: if S3 does not say.
    """
    key = store.key_of(location)
    written = store.read(key) if key else None
    if written is None or written.changed < since - _CLOCKS_DIFFER:
        return None
    return failure_of(written.body.decode(errors="replace"), backend)


def check_locations(store: Store, *locations: str | None) -> None:
    """Check that all of the places where SageMaker says that it writes are in a store.

    Raises:
        UnreadableLocation: for the first that is not, which is logged.
    """
    for location in locations:
        if location and not store.key_of(location):
            logger.error("unreadable location", extra={"location": location})
            raise UnreadableLocation(
                "The model's endpoint writes to a place that this gateway cannot read."
            )


def _picture_key(identifier: str, request: GenerationRequest) -> str:
    """Return the key of a real-time picture, which SageMaker is asked for as well."""
    return f"outputs/{digest_of(identifier)}/picture.{request.file_format}"
