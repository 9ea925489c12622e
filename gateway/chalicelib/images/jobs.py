"""Jobs: pictures that take longer than a request. S3 is their only store, and their only lock.

    records/<digest>.json            what was requested, and until when a run may be in progress
    (a key that SageMaker names)     the picture, or why there is none; SageMaker writes them
    outputs/<digest>/picture.<ext>   the picture, as long as SageMaker's response is not known

A job's id is a hash of the completed request and the model's revision, so the same request always
leads to the same job, done or in progress. Whoever creates the record, or replaces one that has
ended, has claimed the run; every other request finds the claim. A claim ends by itself when no run
of it can be alive any more, that is after the longest wait in SageMaker's queue and the longest run
together: so a claim whose owner died, at whatever moment, neither runs twice nor waits for ever.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, TypeVar

from chalicelib.aws.deadline import Deadline, ending, sharing
from chalicelib.aws.s3 import Store
from chalicelib.aws.sagemaker import AsyncEndpoint, QueueTimeouts, failure_of
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
from chalicelib.image_files import LARGEST_PICTURE, check_picture
from chalicelib.images.resolved_request import ResolvedRequest
from chalicelib.telemetry import logger

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.1, 2.0, 1.4
# The last poll is this long before the deadline, or a quarter of a short wait: S3 needs time too.
_LAST_POLL, _SHORTEST_PAUSE = 0.5, 0.01
# A failure is rarer than a picture, and finding one takes two more calls to S3.
_POLLS_PER_FAILURE_CHECK = 4
# Lambda's own limit: a claim is queued by then, or never.
_LONGEST_SUBMISSION = 60
_LINK_SECONDS = 3_600
Result = TypeVar("Result")
# The model's name, and the 32 hexadecimal digits of `job_id`.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}-[0-9a-f]{32}")


class State(StrEnum):
    """The state of a job that has a record."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Claim:
    """The content of a job's record: the latest claim on its run.

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
    """A job's record in S3.

    Attributes:
        id: the job's.
        request: what was requested.
        claim: its content.
        tag: identifies this version of it, so that only its reader can replace it.
    """

    id: str
    request: GenerationRequest
    claim: Claim
    tag: str


@dataclass(frozen=True)
class Job:
    """A job at one moment.

    Attributes:
        waited: seconds since it was requested.
        attempt: the number of runs that were claimed for it.
        output: the key of its picture.
        error: why it failed, or that it expired; None otherwise.
    """

    id: str
    state: State
    request: GenerationRequest
    waited: float
    attempt: int
    output: str
    error: GatewayError | None = None

    @property
    def is_over(self) -> bool:
        """Whether a new request starts a new run: the last one was lost, or failed by accident."""
        if self.state is State.FAILED:
            return not isinstance(self.error, CallerFault)
        return self.state is State.EXPIRED


@dataclass(frozen=True)
class Finished:
    """A finished picture: its bytes, or the URL of one that does not fit Lambda's response."""

    body: bytes
    link: str | None = None


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
        endpoint: its asynchronous endpoint, which writes below `outputs/` in that part.
        timeouts: how long a request may be queued and may run.
        now: seconds since 1970.
        sleep: lets seconds pass.
    """

    def __init__(
        self,
        store: Store,
        endpoint: AsyncEndpoint,
        timeouts: QueueTimeouts | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._timeouts = timeouts or QueueTimeouts()
        self._now = now
        self._sleep = sleep

    def read(self, identifier: str) -> Record | None:
        """Return a job's record, or None if there is none; raises StoreUnavailable."""
        stored = self._store.read(_record_key(identifier))
        if stored is None:
            return None
        claim = Claim.from_bytes(stored.body)
        return Record(identifier, GenerationRequest.from_dict(claim.request), claim, stored.tag)

    def job(self, record: Record) -> Job:
        """Return the job of a record, in its present state.

        Raises:
            EndpointFailed: as `start`, for as long as the run may be in progress.
            StoreUnavailable: if S3 does not say.
        """
        if self._now() <= record.claim.ends:
            self._check_locations(record.claim)
        job = self._waiting(record)
        # The picture is looked for first: a run that was given up as lost may still have finished.
        if self._store.size(job.output) is not None:
            return replace(job, state=State.DONE)
        reason = self._failure(record.claim)
        if reason is not None:
            return replace(job, state=State.FAILED, error=reason)
        if record.claim.given_up or self._now() > record.claim.ends:
            lost = JobExpired("The picture was lost, or is no longer stored. Request it again.")
            return replace(job, state=State.EXPIRED, error=lost)
        return job

    def claim(self, resolved: ResolvedRequest, owner: str, over: Record | None) -> Record | None:
        """Claim the run of a request.

        Args:
            resolved: the request.
            owner: identifies the claimant, which finds its claim by this name should S3 write it
                and the response to that be lost.
            over: the record of a job whose last run is over; None if there is no record.

        Returns:
            The new record; None if another request claimed the run first.

        Raises:
            StoreUnavailable: if S3 did not confirm the claim. It may be written nevertheless.
        """
        now, timeouts = self._now(), self._timeouts
        claim = Claim(
            request=resolved.request.to_dict(),
            revision=resolved.model.revision,
            owner=owner,
            attempt=1 if over is None else over.claim.attempt + 1,
            asked=now,
            ends=now + _LONGEST_SUBMISSION + timeouts.queue_seconds + timeouts.run_seconds,
            earlier_failure=over.claim.failure or over.claim.earlier_failure if over else None,
        )
        key, body = _record_key(resolved.id), claim.to_bytes()
        if over is None:
            # Both writes are conditional: of two requests at once, exactly one gets a tag.
            tag = self._store.create(key, body)
        else:
            tag = self._store.replace(key, body, over.tag)
        return None if tag is None else Record(resolved.id, resolved.request, claim, tag)

    def forget_failure(self, record: Record) -> None:
        """Delete what SageMaker wrote about the run before a claimed one.

        That its name is another one for each run is not documented, and a failure that stays there
        would make the new run look failed as soon as it is queued.

        Raises:
            StoreUnavailable: if S3 did not confirm the deletion.
        """
        location = record.claim.earlier_failure
        key = self._store.key_of(location) if location else None
        if key:
            self._store.delete(key)

    def start(self, record: Record, trace: str, changed: int | None = None) -> Job:
        """Queue a claimed run; a claim that certainly has no run is given up at once.

        Args:
            record: of the claim.
            trace: an identifier for the container's log.
            changed: when the file of one of its adapters was changed last, if it has any.

        Raises:
            EndpointFailed: if SageMaker will write outside the part of the bucket that the gateway
                can read. The run is in progress, so the claim is kept.
            GatewayError: any other, if the endpoint does not take it.
        """
        folder, _, file = _picture_key(record).rpartition("/")
        folder = folder.removeprefix("outputs/")
        try:
            queued = self._endpoint.submit(
                record.request, folder, file, self._timeouts, trace, changed
            )
        except MayHaveReachedGpu:
            # It may run: the claim holds until it ends by itself.
            return self._waiting(record)
        except GatewayError:
            self.give_up(record)
            raise
        claim = replace(record.claim, output=queued.output, failure=queued.failure)
        if claim != record.claim:
            self._rewrite(record, claim)
        self._check_locations(claim)
        return self._waiting(replace(record, claim=claim))

    def give_up(self, record: Record) -> None:
        """End a claim that certainly has no run, so that the next request can claim one."""
        self._rewrite(record, replace(record.claim, given_up=True))

    def find(self, identifier: str) -> Job:
        """Return a job by its id.

        Raises:
            JobUnknown: if there is no record of it.
            StoreUnavailable: if S3 returns neither.
        """
        record = self.read(identifier)
        if record is None:
            raise JobUnknown("Unknown job.")
        return self.job(record)

    def wait(self, job: Job, deadline: Deadline) -> tuple[Job, Finished | None]:
        """Return the job with its picture, as soon as it is there, or the job at the deadline.

        S3 is polled after 0.1 s and then in growing pauses, of at most two seconds, and a last time
        shortly before the deadline; not at once, because the state of a job that waits has only
        just been read.
        """
        if job.state is State.DONE:
            return job, self.picture(job)
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
                return replace(job, state=State.DONE, error=None), picture
        return job, None

    def stored_picture(self, resolved: ResolvedRequest) -> Finished | None:
        """Return the picture of a request that may have one; otherwise as `picture`."""
        record = self.read(resolved.id)
        return self.picture(self._waiting(record)) if record else None

    def picture(self, job: Job) -> Finished | None:
        """Return the picture of a job, or None if there is none.

        Raises:
            BadPicture: if what SageMaker wrote is not a complete picture.
        """
        stored = self._store.read(job.output, longest=LARGEST_PICTURE)
        if stored is None:
            return None
        if stored.size > LARGEST_PICTURE:
            # SageMaker does not document which type the object in S3 has, so the link sets it.
            media_type = f"image/{job.request.format}"
            return Finished(
                b"", self._store.link(job.output, _LINK_SECONDS, ResponseContentType=media_type)
            )
        check_picture(stored.body, job.request.format)
        return Finished(stored.body)

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

    def _rewrite(self, record: Record, claim: Claim) -> None:
        """Change the record, unless another request has replaced it meanwhile."""
        # Losing this race is harmless: another claim describes a newer run.
        with ending():
            self._store.replace(_record_key(record.id), claim.to_bytes(), record.tag)

    def _failure(self, claim: Claim) -> GatewayError | None:
        key = self._store.key_of(claim.failure) if claim.failure else None
        written = self._store.read(key) if key else None
        return failure_of(written.body.decode(errors="replace")) if written else None

    def _waiting(self, record: Record) -> Job:
        """Return the job of a record that waits, as each does until S3 says otherwise."""
        claim = record.claim
        output = self._store.key_of(claim.output) if claim.output else None
        return Job(
            record.id,
            State.WAITING,
            record.request,
            waited=max(self._now() - claim.asked, 0),
            attempt=claim.attempt,
            output=output or _picture_key(record),
        )

    def _check_locations(self, claim: Claim) -> None:
        """Raise EndpointFailed if SageMaker writes where this gateway cannot read."""
        for location in (claim.output, claim.failure):
            if location and not self._store.key_of(location):
                logger.error("unreadable location", extra={"location": location})
                raise EndpointFailed(
                    "The model's endpoint writes to a place that this gateway cannot read."
                )


def _digest(identifier: str) -> str:
    return identifier.rpartition("-")[2]


def _record_key(identifier: str) -> str:
    return f"records/{_digest(identifier)}.json"


def _picture_key(record: Record) -> str:
    """Return the key that SageMaker is asked for."""
    return f"outputs/{_digest(record.id)}/picture.{record.request.format}"
