"""The image service: from a resolved request to its picture, or to the job that will make it."""

from __future__ import annotations

import math
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.auth.authenticate import check_picture
from chalicelib.auth.quota import Payment, Quota
from chalicelib.aws.clients import Client, LazyClient
from chalicelib.aws.deadline import Deadline
from chalicelib.aws.s3 import Store
from chalicelib.aws.sagemaker import AsyncEndpoint, Endpoint
from chalicelib.errors import (
    BillFault,
    EndpointDown,
    EndpointTooSlow,
    EndpointUnavailable,
    GatewayError,
    InvalidRequest,
    JobUnknown,
    NeverReachedGpu,
    PromptRefused,
    StoreUnavailable,
)
from chalicelib.generation import GenerationRequest
from chalicelib.images.adapters import Adapters
from chalicelib.images.jobs import Finished, Job, Jobs, Record, State, model_of
from chalicelib.images.meter import Meter
from chalicelib.images.prompt_filter import prompt_filter
from chalicelib.images.resolved_request import ResolvedRequest, complete, job_id
from chalicelib.images.usage import Usage
from chalicelib.images.wait_slots import ConcurrencyLimiter, Slot
from chalicelib.settings import Queue, Settings
from chalicelib.telemetry import LogRecord

# A picture, the job that it is still waiting for, or None if a run would have to start for it.
Outcome = Finished | Job | None


@dataclass
class Call:
    """One caller's use of the service.

    Attributes:
        payment: pays for the runs.
        log: collects what happened.
        deadline: when the caller must have its response.
        trace: an identifier for the container's log, at most 1,000 visible characters.
        longest_wait: the number of seconds that the caller is willing to wait for a queued picture.
        starts_runs: whether a picture that does not exist is generated.
        prompt_warning: the category of a prompt that the filter let through with a warning.
    """

    payment: Payment
    log: LogRecord
    deadline: Deadline
    trace: str
    longest_wait: float = math.inf
    starts_runs: bool = True
    prompt_warning: str | None = None

    @property
    def wait_budget(self) -> float:
        """Seconds for which the caller can wait from now on."""
        return min(self.longest_wait, self.deadline.remaining)


@dataclass(frozen=True)
class _JobQueue:
    """The jobs of one model, and the slots of those that wait for them."""

    jobs: Jobs
    limiter: ConcurrencyLimiter


class ImageService:
    """Generates pictures with the models on offer.

    Args:
        settings: the gateway's.
        runtime: provides the SageMaker Runtime client.
        s3: provides the S3 client; used only by asynchronous models, by links with a quota, and for
            published adapters.

    Attributes:
        adapters: the LoRA adapters of the models on offer.
        meter: what pictures cost.
        usage: what was used; None if it is not recorded.
    """

    def __init__(
        self, settings: Settings, runtime: Client | None = None, s3: Client | None = None
    ) -> None:
        self.settings = settings
        self._runtime = runtime or LazyClient("sagemaker-runtime", settings.deadline_seconds)
        self._s3 = s3 or LazyClient("s3", read_seconds=5, attempts=2)
        self.adapters = Adapters(self._store)
        self._quota = Quota(settings.protection, self._store)
        self.meter = Meter(settings, self._store)
        self.usage = settings.usage and Usage(settings.usage, self._store)
        queues = {model.name: model.queue for model in settings.models.values() if model.queue}
        # The slots of a model are in its part of the bucket: the models share out the limit.
        places = {(queue.bucket, queue.prefix) for queue in queues.values()}
        most = max(settings.most_waiting // max(len(places), 1), 1)
        self._queues = {name: self._queue(queue, most) for name, queue in queues.items()}

    def resolve(
        self, call: Call, request: GenerationRequest, seed: int | None = None
    ) -> ResolvedRequest:
        """Complete a request as `complete` does, and return it with its model and its id.

        Nothing else makes a ResolvedRequest, so that every look at a picture, stored or not, has
        passed this check: whether one exists is not for everyone to know.

        Raises:
            InvalidRequest: as `complete`, or naming `lora`, if there is no such adapter.
            StoreUnavailable: if the list of adapters is needed, and could not be read.
            Unauthorized: if the caller has the URL of another picture only.
        """
        request = complete(self.settings, request, seed)
        model = self.settings.models[str(request.model)]
        versions = self.adapters.versions(model, request)
        identifier = job_id(request, model.revision, versions.tags)
        check_picture(call.payment.principal, identifier)
        return ResolvedRequest(request, model, identifier, versions.changed)

    def check_prompt(self, call: Call, prompt: str) -> None:
        """Apply the prompt filter as the settings say. Negative prompts are not filtered.

        Raises:
            PromptRefused: if the filter finds a word, and is not set to warn only.
        """
        protection = self.settings.protection
        # The word lists are compiled only where they are used.
        if protection.filter_mode == "off":
            return
        match = prompt_filter(protection.filter_words).check(prompt)
        if match is None:
            return
        call.log.add(prompt_filter=match.category)
        if protection.filter_mode == "refuse":
            message = f"prompt: contains {match.reason}, which this gateway refuses"
            raise PromptRefused(message, field="prompt")
        call.prompt_warning = match.category

    def generate(self, call: Call, resolved: ResolvedRequest) -> Outcome:
        """Return the picture, or its job if that takes longer than the caller can wait.

        Args:
            call: pays and waits.
            resolved: its prompt has passed `check_prompt`.

        Raises:
            GatewayError: if there is no picture.
        """
        self.meter.report(call.payment, resolved.request, painted=False)
        # A crawler gets a picture only if a run was paid for before.
        if not call.starts_runs:
            if resolved.model.queue is None:
                return None
            return self._queue_of(resolved).jobs.stored_picture(resolved)
        if resolved.model.endpoint is not None:
            try:
                return Finished(self._invoke(call, resolved, resolved.model.endpoint))
            # A queue has no 29 s limit, so it also helps where the endpoint was too slow.
            except (EndpointUnavailable, EndpointDown, EndpointTooSlow):
                if resolved.model.queue is None:
                    raise
        queue = self._queue_of(resolved)
        with queue.limiter.slot() as slot:
            # A caller that can wait but finds no slot is refused before it pays for a run.
            job = self._enqueue(call, resolved, queue.jobs, slot if call.wait_budget > 0 else None)
            return self._wait(call, job, queue.jobs, slot)

    def exists(self, resolved: ResolvedRequest) -> bool:
        """Whether the picture is there already, so that it costs nothing; raises StoreUnavailable.

        A real-time endpoint generates it each time.
        """
        if resolved.model.endpoint is not None:
            return False
        jobs = self._queue_of(resolved).jobs
        record = jobs.read(resolved.id)
        return record is not None and jobs.job(record).state is State.DONE

    def enqueue(self, call: Call, resolved: ResolvedRequest) -> Job:
        """Return the job of a request, without waiting for it.

        Args:
            call: pays.
            resolved: its prompt has passed `check_prompt`.

        Raises:
            InvalidRequest: naming `model`, if that has no asynchronous endpoint.
            GatewayError: if it cannot be queued.
        """
        self.meter.report(call.payment, resolved.request, painted=False)
        return self._enqueue(call, resolved, self._queue_of(resolved).jobs, None)

    def wait(self, call: Call, job: Job) -> Outcome:
        """Return a job's picture, or the job if it is still waiting when the caller must leave.

        Raises:
            GatewayError: if there will be no picture.
        """
        queue = self._queue_named(job.id)
        self.meter.report(call.payment, job.request, painted=True)
        if not call.starts_runs:
            return queue.jobs.picture(job)
        with queue.limiter.slot() as slot:
            return self._wait(call, job, queue.jobs, slot)

    def find(self, identifier: str) -> Job:
        """Return a job by its id; raises JobUnknown."""
        return self._queue_named(identifier).jobs.find(identifier)

    def _invoke(self, call: Call, resolved: ResolvedRequest, name: str) -> bytes:
        """Return the picture of a real-time endpoint."""
        self._quota.spend(call.payment, resolved.id)
        try:
            run = self.meter.realtime(call.payment, resolved.request, call.deadline.remaining)
        except (BillFault, StoreUnavailable):
            self._quota.refund(call.payment, resolved.id)
            raise
        endpoint, started = Endpoint(self._runtime, name), call.log.elapsed
        try:
            with run:
                body = endpoint.invoke(
                    resolved.request, call.deadline, trace=call.trace, changed=resolved.changed
                )
        except (NeverReachedGpu, InvalidRequest):  # the container checks before it uses the GPU
            self._quota.refund(call.payment, resolved.id)
            raise
        finally:
            milliseconds = round((call.log.elapsed - started) * 1_000, 1)
            call.log.add(endpoint_milliseconds=milliseconds)
        call.log.add(bytes=len(body))
        return body

    def _enqueue(self, call: Call, resolved: ResolvedRequest, jobs: Jobs, slot: Slot | None) -> Job:
        """Look the job up; if it needs a run, take the slot, claim the run, pay, and start it."""
        owner = uuid.uuid4().hex
        record = jobs.read(resolved.id)
        # The claim is our own if S3 wrote it, though its response was lost.
        while record is None or record.claim.owner != owner:
            if record is not None and not (job := jobs.job(record)).is_over:
                return job
            if slot is not None:
                slot.take(resolved.id)
            # Who cannot pay must not claim: other requests would wait for its run.
            self._quota.check(call.payment, resolved.id)
            self.meter.check(call.payment, resolved.request)
            # Without a claim, another request was first: its job is read.
            record = jobs.claim(resolved, owner, record) or jobs.read(resolved.id)
        return self._start(call, record, jobs, resolved.changed)

    def _start(self, call: Call, record: Record, jobs: Jobs, changed: int | None) -> Job:
        """Pay for a claimed run and start it: of many requests for one picture, one pays."""
        charged = False
        try:
            jobs.forget_failure(record)
            charged = self._quota.spend(call.payment, record.id)
            run = self.meter.queued(call.payment, record.request)
        except GatewayError:
            if charged:
                self._quota.refund(call.payment, record.id)
            with suppress(StoreUnavailable):  # the claim ends by itself, later
                jobs.give_up(record)
            raise
        try:
            with run:
                return jobs.start(record, call.trace, changed)
        except (NeverReachedGpu, InvalidRequest):
            # What a real-time endpoint has paid for already may be on its GPU.
            if charged:
                self._quota.refund(call.payment, record.id)
            raise

    def _wait(self, call: Call, job: Job, jobs: Jobs, slot: Slot) -> Outcome:
        call.log.add(job=job.id, attempt=job.attempt)
        # Read once: it shrinks with every call to S3.
        seconds = call.wait_budget
        if job.state is State.WAITING and seconds > 0:
            slot.take(job.id)
        waited = job.waited if job.state is State.WAITING else None
        begun = call.log.elapsed
        job, picture = jobs.wait(job, Deadline(time.monotonic() + seconds))
        if picture is not None or job.error is not None:
            if waited is not None:
                waited = round((waited + call.log.elapsed - begun) * 1_000, 1)
            call.log.add(queue_milliseconds=waited)
        if picture is not None:
            return picture
        if job.error is not None:
            raise job.error
        return job

    def _queue_of(self, resolved: ResolvedRequest) -> _JobQueue:
        resolved.require_queue()
        return self._queues[resolved.model.name]

    def _queue_named(self, identifier: str) -> _JobQueue:
        """Return the queue of a job; raises JobUnknown if no model has it."""
        queue = self._queues.get(model_of(identifier))
        if queue is None:
            raise JobUnknown("Unknown job.")
        return queue

    def _queue(self, queue: Queue, most_waiting: int) -> _JobQueue:
        store = self._store(queue.bucket, queue.prefix)
        jobs = Jobs(store, AsyncEndpoint(self._runtime, queue.endpoint))
        return _JobQueue(jobs, ConcurrencyLimiter(store, most_waiting))

    def _store(self, bucket: str, prefix: str) -> Store:
        return Store(self._s3, bucket, prefix)
