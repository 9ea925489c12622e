"""Jobs: pictures that take longer than a visit. S3 is their only store, and their only lock.

    records/<digest>.json            who asked for what, and until when a run may be under way
    outputs/<digest>/picture.<ext>   the picture; SageMaker writes it
    (a key that SageMaker names)     why there is none; SageMaker writes that too

A job's id is a hash of the completed request and the model's revision, so asking twice finds the
first answer, done or under way. Who creates the record, or replaces one that is over, has claimed
the run; everybody else finds the claim. A claim ends by itself when no run of it can be alive any
more, that is after the longest wait in SageMaker's queue and the longest run together: so a claim
whose owner died, at whatever moment, neither runs twice nor waits for ever.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from chalicelib.aws.deadline import Deadline, DeadlinePassed
from chalicelib.aws.s3 import Store, Stored
from chalicelib.aws.sagemaker import AsyncEndpoint, Life, Unsettled, failure_of
from chalicelib.errors import GatewayError, JobExpired, JobUnknown
from chalicelib.generation import GenerationRequest
from chalicelib.image_files import LARGEST_PICTURE, check_picture

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.1, 2.0, 1.4
# How long before the deadline S3 is asked for the last time, at most: of a short wait, a quarter.
_LAST_LOOK, _SHORTEST_PAUSE = 0.5, 0.01
# A failure is rarer than a picture, and takes two calls more to find.
_LOOKS_FOR_A_FAILURE = 4
# Lambda's own limit: a claim is queued by then, or never.
_LONGEST_SUBMISSION = 60
_LINK_SECONDS = 3_600
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}-[0-9a-f]{32}")


class State(StrEnum):
    """What is known of a job; of an unknown one there is no Job at all."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Claim:
    """A job's record: the latest claim on it.

    Attributes:
        owner: names the submission that made the claim.
        attempt: how many claims there have been.
        asked: when this one was made, in seconds since 1970.
        ends: when no run of it can be alive any more.
        failure: where SageMaker says why, should it fail; None until it is queued.
        given_up: whether it certainly has no run.
    """

    request: dict[str, Any]
    revision: str
    owner: str
    attempt: int
    asked: float
    ends: float
    failure: str | None = None
    given_up: bool = False

    def to_bytes(self) -> bytes:
        """Return the record's content."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Claim:
        """Read a record."""
        return cls(**json.loads(content))


@dataclass(frozen=True)
class Job:
    """A job as it stands at one moment.

    Attributes:
        error: why it failed, or that it expired; None otherwise.
        waited: seconds since it was asked for.
    """

    id: str
    state: State
    request: GenerationRequest
    waited: float
    attempt: int
    error: GatewayError | None = None


@dataclass(frozen=True)
class Finished:
    """A finished picture: its bytes, or where to fetch them if they do not fit Lambda's answer."""

    body: bytes
    link: str | None = None


def job_id(request: GenerationRequest, revision: str) -> str:
    """Return the id of a completed request's job: the model's name and 128 bits of SHA-256."""
    content = json.dumps([request.to_dict(), revision], sort_keys=True, separators=(",", ":"))
    return f"{request.model}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def model_of(identifier: str) -> str:
    """Return the name of the model that a job's id speaks of; raises JobUnknown for no id."""
    if not _ID.fullmatch(identifier):
        raise JobUnknown("There is no such picture.")
    return identifier.rpartition("-")[0]


class Jobs:
    """The jobs of one model.

    Args:
        store: the model's own part of the bucket.
        endpoint: its asynchronous endpoint, which writes below `outputs/` in that part.
        life: how long a queued request lives.
        now: seconds since 1970.
        sleep: lets seconds pass.
    """

    def __init__(
        self,
        store: Store,
        endpoint: AsyncEndpoint,
        life: Life | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._life = life or Life()
        self._now = now
        self._sleep = sleep

    def submit(
        self,
        request: GenerationRequest,
        revision: str,
        trace: str,
        before_a_run: Callable[[], object] = lambda: None,
    ) -> Job:
        """Return the request's job, claiming its run if there is none.

        What failed for a reason of its own is not tried again; what failed otherwise, expired or
        was lost is.

        Args:
            request: complete, that is with seed and model.
            revision: names the model's weights.
            trace: an identifier for the container's log.
            before_a_run: called before a run is claimed, once or more often; what it raises keeps
                the run from beginning.

        Raises:
            GatewayError: if the store or the endpoint does not take it.
        """
        identifier, owner = job_id(request, revision), uuid.uuid4().hex
        while True:
            found = self._store.read(_record(identifier))
            if found is None:
                before_a_run()
                claim = self._claim(request, revision, owner, attempt=1)
                tag = self._store.create(_record(identifier), claim.to_bytes())
            else:
                claim = Claim.from_bytes(found.body)
                if claim.owner == owner:  # written, though the answer to writing it was lost
                    return self._start(identifier, claim, found.tag, trace)
                job = self._judge(identifier, claim)
                if not _may_try_again(job):
                    return job
                before_a_run()
                claim = self._claim(request, revision, owner, claim.attempt + 1)
                tag = self._store.replace(_record(identifier), claim.to_bytes(), found.tag)
            if tag is not None:
                return self._start(identifier, claim, tag, trace)

    def find(self, identifier: str) -> Job:
        """Return a job by its id.

        Raises:
            JobUnknown: if there is no record of it.
            StoreUnavailable: if S3 does not tell.
        """
        found = self._store.read(_record(identifier))
        if found is None:
            raise JobUnknown("There is no such picture.")
        return self._judge(identifier, Claim.from_bytes(found.body))

    def wait(self, job: Job, deadline: Deadline) -> tuple[Job, Finished | None]:
        """Return the job with its picture, as soon as it is there or the deadline has come.

        S3 is asked after 0.1 s and then in growing pauses, of at most two seconds, and a last time
        shortly before the deadline; not at once, because whoever holds a job that waits has only
        just been told so by S3.
        """
        pause, looks = _FIRST_PAUSE, 0
        reserve = min(_LAST_LOOK, deadline.remaining / 4)
        while job.state is State.WAITING:
            left = deadline.remaining - reserve
            if left < _SHORTEST_PAUSE:
                break
            self._sleep(min(pause, left))
            pause, looks = min(pause * _GROWTH, _LONGEST_PAUSE), looks + 1
            if looks % _LOOKS_FOR_A_FAILURE == 0:
                job = self.find(job.id)
            picture = self._picture_before(job, deadline)
            if picture is not None:
                return replace(job, state=State.DONE, error=None), picture
        return job, None

    def picture(self, job: Job) -> Finished | None:
        """Return a job's picture, or None while there is none.

        Raises:
            BadPicture: if what SageMaker wrote is no whole picture.
        """
        found = self._store.read(_output(job.id, job.request.format), longest=LARGEST_PICTURE)
        return None if found is None else self._finished(job, found)

    def _finished(self, job: Job, found: Stored) -> Finished:
        if found.size > LARGEST_PICTURE:
            key = _output(job.id, job.request.format)
            kind = f"image/{job.request.format}"
            return Finished(b"", self._store.link(key, _LINK_SECONDS, ResponseContentType=kind))
        check_picture(found.body, job.request.format)
        return Finished(found.body)

    def _picture_before(self, job: Job, deadline: Deadline) -> Finished | None:
        try:
            return deadline.keep(lambda: self.picture(job))
        except DeadlinePassed:
            return None

    def _claim(self, request: GenerationRequest, revision: str, owner: str, attempt: int) -> Claim:
        now = self._now()
        ends = now + _LONGEST_SUBMISSION + self._life.queue_seconds + self._life.run_seconds
        return Claim(request.to_dict(), revision, owner, attempt, now, ends)

    def _start(self, identifier: str, claim: Claim, tag: str, trace: str) -> Job:
        """Queue a claimed job; a claim that certainly has no run is given up at once."""
        request = GenerationRequest.from_dict(claim.request)
        folder, _, file = _output(identifier, request.format).rpartition("/")
        folder = folder.removeprefix("outputs/")
        try:
            failure = self._endpoint.submit(request, folder, file, self._life, trace)
        except Unsettled:
            failure = None  # it may run: its claim stands until it ends by itself
        except GatewayError:
            self._store.replace(_record(identifier), replace(claim, given_up=True).to_bytes(), tag)
            raise
        if failure is not None:
            written = replace(claim, failure=failure)
            self._store.replace(_record(identifier), written.to_bytes(), tag)
        return self._job(identifier, claim, State.WAITING)

    def _judge(self, identifier: str, claim: Claim) -> Job:
        request = GenerationRequest.from_dict(claim.request)
        if self._store.size(_output(identifier, request.format)) is not None:
            return self._job(identifier, claim, State.DONE)
        reason = self._failure(claim)
        if reason is not None:
            return self._job(identifier, claim, State.FAILED, reason)
        if claim.given_up or self._now() > claim.ends:
            lost = JobExpired("The picture was lost, or is kept no longer. Ask for it anew.")
            return self._job(identifier, claim, State.EXPIRED, lost)
        return self._job(identifier, claim, State.WAITING)

    def _failure(self, claim: Claim) -> GatewayError | None:
        key = self._store.key_of(claim.failure) if claim.failure else None
        written = self._store.read(key) if key else None
        return failure_of(written.body.decode(errors="replace")) if written else None

    def _job(
        self, identifier: str, claim: Claim, state: State, error: GatewayError | None = None
    ) -> Job:
        request = GenerationRequest.from_dict(claim.request)
        waited = max(self._now() - claim.asked, 0)
        return Job(identifier, state, request, waited, claim.attempt, error)


def _may_try_again(job: Job) -> bool:
    if job.state is State.FAILED:
        return job.error is not None and job.error.status >= 500
    return job.state is State.EXPIRED


def _digest(identifier: str) -> str:
    return identifier.rpartition("-")[2]


def _record(identifier: str) -> str:
    return f"records/{_digest(identifier)}.json"


def _output(identifier: str, extension: str) -> str:
    return f"outputs/{_digest(identifier)}/picture.{extension}"
