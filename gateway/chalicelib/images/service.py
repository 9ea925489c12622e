"""The image service: from a resolved request to its picture, or to the job that will make it."""

from __future__ import annotations

import math
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from chalicelib.auth.authenticate import check_picture
from chalicelib.auth.quota import Payment, Quota, Stores
from chalicelib.aws.clients import Client, LazyClient
from chalicelib.aws.deadline import Deadline
from chalicelib.aws.s3 import Store
from chalicelib.aws.sagemaker import AsyncEndpoint, Endpoint, QueuedRun, QueueTimeouts
from chalicelib.errors import (
    BillFault,
    EndpointDown,
    EndpointTooSlow,
    EndpointUnavailable,
    GatewayError,
    InvalidRequest,
    JobExpired,
    JobUnknown,
    KeyRequired,
    NeverReachedGpu,
    PictureUnknown,
    PromptRefused,
    StoreUnavailable,
)
from chalicelib.generation import GenerationRequest
from chalicelib.images.adapters import Adapters
from chalicelib.images.claims import Claims, Record
from chalicelib.images.jobs import Finished, Job, Jobs, State, model_of
from chalicelib.images.lease import Leases
from chalicelib.images.meter import Meter
from chalicelib.images.prompt_filter import prompt_filter
from chalicelib.images.resolved_request import ResolvedRequest, complete, job_id
from chalicelib.images.spend import Spend
from chalicelib.images.usage import Usage
from chalicelib.images.wait_slots import ConcurrencyLimiter, Slot
from chalicelib.settings import Model, Settings
from chalicelib.telemetry import LogRecord
from chalicelib.web.principal import AuthMethod

# A picture, the job that it is still waiting for, or None if a run would have to start for it.
Outcome = Finished | Job | None
# Another endpoint of the same model can help: a queue also where this one was too slow, because it
# has no 29 s limit.
_ANOTHER_CAN_HELP = (EndpointUnavailable, EndpointDown, EndpointTooSlow)
# A real-time run ends with its request's deadline; its picture is stored a moment later, or never.
_STORING = 5


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
        wakes: whether an endpoint that its lease has ended is created again for the picture.
        names_seed: whether the caller chose the seed: then the same request always leads to the
            same picture, which a real-time model stores as well.
        prompt_warning: the category of a prompt that the filter let through with a warning.
    """

    payment: Payment
    log: LogRecord
    deadline: Deadline
    trace: str
    longest_wait: float = math.inf
    starts_runs: bool = True
    wakes: bool = False
    names_seed: bool = False
    prompt_warning: str | None = None

    @property
    def wait_budget(self) -> float:
        """Seconds for which the caller can wait from now on."""
        return min(self.longest_wait, self.deadline.remaining)


@dataclass(frozen=True)
class _Stored:
    """The stored pictures of one model, and the slots of the requests that wait for them."""

    jobs: Jobs
    limiter: ConcurrencyLimiter


class ImageService:
    """Generates pictures with the models on offer.

    Args:
        settings: the gateway's.
        runtime: provides the SageMaker Runtime client.
        s3: provides the S3 client; used only for stored pictures, by links with a quota, and for
            published adapters.
        leases: renews the leases of real-time endpoints; None for AWS's.

    Attributes:
        adapters: the LoRA adapters of the models on offer.
        spend: what the month has cost, and its cap.
        meter: what pictures cost.
        usage: what was used; None if it is not recorded.
        store_of: provides parts of S3, with the client that all of the service uses.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Client | None = None,
        s3: Client | None = None,
        leases: Leases | None = None,
    ) -> None:
        self.settings = settings
        self._runtime = runtime or LazyClient("sagemaker-runtime", settings.deadline_seconds)
        self._s3 = s3 or LazyClient("s3", read_seconds=5, attempts=2)
        self.store_of: Stores = self._store
        self.adapters = Adapters(self._store)
        self._quota = Quota(settings.protection, self._store)
        self._leases = leases or Leases()
        self.spend = Spend(self._store(*settings.spend) if settings.spend else None)
        self.meter = Meter(settings, self._store)
        self.usage = settings.usage and Usage(settings.usage, self._store)
        places = {model.name: model.place for model in settings.models.values() if model.place}
        # The slots of a model are in its part of the bucket: the models share out the limit.
        most = max(settings.most_waiting // max(len(set(places.values())), 1), 1)
        self._stored = {
            name: self._stored_of(settings.models[name], place, most)
            for name, place in places.items()
        }

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
        link_id = job_id(request, model.revision, versions.tags)
        check_picture(call.payment.principal, link_id)
        # The same request leads to another picture each time where no seed repeats one.
        chance = () if model.backend.repeats else (secrets.token_hex(16),)
        identifier = job_id(request, model.revision, (*versions.tags, *chance))
        return ResolvedRequest(request, model, identifier, link_id, versions.changed)

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
        picture = self._existing(call, resolved)
        if picture is not None or not call.starts_runs:
            return picture
        if not self.stores(call, resolved) and (body := self._real_time(call, resolved)):
            return Finished(body)
        stored = self._stored_in(resolved.model.name)
        with stored.limiter.slot() as slot:
            while True:
                job = self._job(call, resolved, stored.jobs, slot)
                try:
                    return self._wait(call, job, stored.jobs, slot)
                except (JobExpired, JobUnknown):
                    # Its run was given up while this request waited, which can start another one.
                    if call.wait_budget <= 0:
                        raise

    def exists(self, call: Call, resolved: ResolvedRequest) -> bool:
        """Whether the picture is stored, so that it costs nothing; raises StoreUnavailable."""
        stored = self._stored.get(resolved.model.name)
        generates = resolved.model.endpoint is not None and not self.stores(call, resolved)
        if stored is None or generates:
            return False
        record = stored.jobs.claims.read(resolved.id)
        return record is not None and stored.jobs.job(record).state is State.DONE

    def enqueue(self, call: Call, resolved: ResolvedRequest) -> Job:
        """Return the job of a request, without waiting for it.

        Args:
            call: pays.
            resolved: its prompt has passed `check_prompt`.

        Raises:
            InvalidRequest: naming `model`, if that has no asynchronous endpoint.
            GatewayError: if it cannot be queued.
        """
        resolved.require_queue()
        self.meter.report(call.payment, resolved.request, painted=False)
        return self._job(call, resolved, self._stored_in(resolved.model.name).jobs)

    def queue(
        self, call: Call, resolved: ResolvedRequest, folder: str, file: str, name: str,
        timeouts: QueueTimeouts,
    ) -> QueuedRun:  # fmt: skip
        """Queue a picture whose claim and place are the caller's, such as those of a batch.

        Args:
            call: pays.
            resolved: its prompt has passed `check_prompt`.
            folder: below the asynchronous endpoint's output, at most 512 characters.
            file: in it, at most 32 characters, with one dot.
            name: of the run, at most 64 characters.
            timeouts: how long it may wait, and how long the container may take.

        Raises:
            InvalidRequest: naming `model`, if that has no asynchronous endpoint.
            MayHaveReachedGpu: if the response was lost: it may be queued or not.
            GatewayError: any other, if it certainly was not queued.
        """
        resolved.require_queue()
        model = resolved.model
        name_of_endpoint = model.queue.endpoint if model.queue else ""
        endpoint = AsyncEndpoint(self._runtime, name_of_endpoint, model.backend)
        with self._paid(call, resolved):
            return endpoint.submit(
                resolved.request, folder, file, timeouts, call.trace, resolved.changed, name
            )

    def wait(self, call: Call, job: Job) -> Outcome:
        """Return a job's picture, or the job if it is still waiting when the caller must leave.

        Raises:
            GatewayError: if there will be no picture.
        """
        stored = self._stored_in(model_of(job.id))
        self.meter.report(call.payment, job.request, painted=True)
        if not call.starts_runs:
            return stored.jobs.picture(job)
        with stored.limiter.slot() as slot:
            return self._wait(call, job, stored.jobs, slot)

    def find(self, call: Call, identifier: str) -> Job:
        """Return a job by its id.

        Raises:
            JobUnknown: if there is none.
            Unauthorized: if the caller has the URL of another picture only.
        """
        principal, name = call.payment.principal, model_of(identifier)
        model = self.settings.models.get(name)
        # Such an id can be computed, and whether there is a job of it is not for everyone to know.
        if model is None or model.backend.repeats:
            check_picture(principal, identifier)
        job = self._stored_in(name).jobs.find(identifier)
        if model is not None and principal.picture not in {None, identifier}:
            # Without a seed, the job has an id of its own, and the URL names the request.
            versions = self.adapters.versions(model, job.request)
            check_picture(principal, job_id(job.request, model.revision, versions.tags))
        return job

    def stores(self, call: Call, resolved: ResolvedRequest) -> bool:
        """Whether the picture of the real-time endpoint is stored, for all who request it."""
        return call.names_seed and resolved.model.pictures is not None

    def remove(self, call: Call, identifier: str, request: GenerationRequest | None = None) -> None:
        """Delete a stored picture.

        Args:
            call: the caller's.
            identifier: of the resolved request, or of its job.
            request: the complete request, if it is known.

        Raises:
            JobUnknown: if the identifier is none.
            KeyRequired: for a caller without a key.
            PictureUnknown: if it is not stored.
            StoreUnavailable: if S3 did not confirm it; deleting it again does the rest.
        """
        if call.payment.principal.method is not AuthMethod.KEY:
            raise KeyRequired("Deleting pictures requires an API key.")
        stored = self._stored.get(model_of(identifier))
        if stored is None or not stored.jobs.remove(identifier, request):
            raise PictureUnknown("This picture is not stored.")

    def _existing(self, call: Call, resolved: ResolvedRequest) -> Finished | None:
        """Return a picture that needs no run, as far as that can be known at once."""
        stored = self._stored.get(resolved.model.name)
        # Of a queue, the claim is read in any case, and leads to the picture.
        if stored is None or (call.starts_runs and not self.stores(call, resolved)):
            return None
        picture = stored.jobs.stored_picture(resolved)
        if picture is not None and call.starts_runs:
            # The metrics count it, without a latency.
            call.log.add(job=resolved.id, queue_milliseconds=None)
        return picture

    def _real_time(self, call: Call, resolved: ResolvedRequest) -> bytes | None:
        """Return the picture of the real-time endpoint; None if only a queue can generate it."""
        if resolved.model.endpoint is None:
            return None
        try:
            with self._paid(call, resolved, call.deadline.remaining):
                return self._invoke(call, resolved, resolved.model.endpoint)
        except _ANOTHER_CAN_HELP:
            if resolved.model.queue is None:
                raise
            return None

    def _invoke(self, call: Call, resolved: ResolvedRequest, name: str) -> bytes:
        endpoint = Endpoint(self._runtime, name, resolved.model.backend)
        started = call.log.elapsed
        try:
            with self._leases.used(resolved.model, wakes=call.wakes):
                body = endpoint.invoke(
                    resolved.request, call.deadline, trace=call.trace, changed=resolved.changed
                )
        finally:
            milliseconds = round((call.log.elapsed - started) * 1_000, 1)
            call.log.add(endpoint_milliseconds=milliseconds)
        call.log.add(bytes=len(body))
        return body

    @contextmanager
    def _paid(
        self, call: Call, resolved: ResolvedRequest, longest: float | None = None
    ) -> Iterator[None]:
        """Charge the caller for a run that is started inside, unless it never reaches a GPU.

        `longest` is as in `Meter.run`, None for a queued picture.
        """
        self.spend.require_room()
        charged = self._quota.spend(call.payment, resolved.id)
        try:
            with self.meter.run(call.payment, resolved.request, longest):
                yield
        # The container checks before it uses the GPU, the meter before anything is started.
        except (NeverReachedGpu, InvalidRequest, BillFault, StoreUnavailable):
            # What another endpoint has paid for already may be on its GPU.
            if charged:
                self._quota.refund(call.payment, resolved.id)
            raise

    def _job(
        self, call: Call, resolved: ResolvedRequest, jobs: Jobs, slot: Slot | None = None
    ) -> Job:
        """Return the job of a request, whose run is started by whoever claims it first.

        With a slot, a caller that would wait for its run but finds no slot is refused before it
        pays. A real-time run is not waited for, but done by this request itself.
        """
        waits = slot is not None and call.wait_budget > 0 and not self.stores(call, resolved)
        claims, owner = jobs.claims, uuid.uuid4().hex
        record = claims.read(resolved.id)
        # The claim is our own if S3 wrote it, though its response was lost.
        while record is None or record.claim.owner != owner:
            if record is not None and not (job := jobs.job(record)).is_over:
                return job
            if slot is not None and waits:
                slot.take(resolved.id)
            # Who cannot pay must not claim: other requests would wait for its run.
            self.spend.require_room()
            self._quota.check(call.payment, resolved.id)
            longest = call.deadline.remaining if self.stores(call, resolved) else None
            self.meter.check(call.payment, resolved.request, longest)
            # Without a claim, another request was first: its job is read.
            record = claims.claim(resolved, owner, record) or claims.read(resolved.id)
        return self._start(call, resolved, jobs, record)

    def _start(self, call: Call, resolved: ResolvedRequest, jobs: Jobs, record: Record) -> Job:
        """Pay for a claimed run and start it: of many requests for one picture, one pays."""
        try:
            if self.stores(call, resolved) and (body := self._real_time(call, resolved)):
                return jobs.keep(record, body)
            jobs.forget_failure(record)
            with self._paid(call, resolved):
                run = jobs.submit(record, call.trace, resolved.changed)
        except GatewayError:
            with suppress(StoreUnavailable):  # the claim ends by itself, later
                jobs.claims.give_up(record)
            raise
        return jobs.queued(record, run)

    def _wait(self, call: Call, job: Job, jobs: Jobs, slot: Slot) -> Finished | Job:
        call.log.add(job=job.id, attempt=job.attempt)
        # Read once: it shrinks with every call to S3.
        seconds = call.wait_budget
        if job.state is State.WAITING and seconds > 0:
            slot.take(job.id)
        waited = job.waited if job.state is State.WAITING else None
        begun = call.log.elapsed
        job = jobs.wait(job, Deadline(time.monotonic() + seconds))
        if job.picture is not None or job.error is not None:
            if waited is not None:
                waited = round((waited + call.log.elapsed - begun) * 1_000, 1)
            call.log.add(queue_milliseconds=waited)
        if job.error is not None:
            raise job.error
        return job.picture or job

    def _stored_in(self, model: str) -> _Stored:
        """Return the stored pictures of a model; raises JobUnknown if nothing of it is stored."""
        stored = self._stored.get(model)
        if stored is None:
            raise JobUnknown("Unknown job.")
        return stored

    def _stored_of(self, model: Model, place: tuple[str, str], most_waiting: int) -> _Stored:
        store, timeouts = self._store(*place), QueueTimeouts()
        if model.queue is None:
            jobs = Jobs(store, Claims(store, self.settings.deadline_seconds + _STORING))
        else:
            endpoint = AsyncEndpoint(self._runtime, model.queue.endpoint, model.backend)
            jobs = Jobs(store, Claims(store, timeouts.longest), endpoint, timeouts)
        return _Stored(jobs, ConcurrencyLimiter(store, most_waiting))

    def _store(self, bucket: str, prefix: str) -> Store:
        return Store(self._s3, bucket, prefix)
