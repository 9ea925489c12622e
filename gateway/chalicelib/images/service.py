"""The way of a picture: from what a visitor asked for to the bytes that answer it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chalicelib.auth.authenticate import picture_token
from chalicelib.auth.quota import Allowance
from chalicelib.aws.clients import LazyClient
from chalicelib.aws.deadline import Deadline
from chalicelib.aws.s3 import Store
from chalicelib.aws.sagemaker import AsyncEndpoint, Client, Endpoint
from chalicelib.dialects.not_ready import not_ready, patience, receipt
from chalicelib.errors import (
    EndpointBusy,
    EndpointMissing,
    EndpointTooSlow,
    EndpointUnreachable,
    InvalidRequest,
    JobUnknown,
    PromptRefused,
)
from chalicelib.generation import GenerationRequest
from chalicelib.images.jobs import Finished, Job, Jobs, State, job_id, model_of
from chalicelib.images.prompt_filter import look
from chalicelib.images.wait_slots import Place, Waiters
from chalicelib.settings import Queue, Settings
from chalicelib.web.body import read_body, read_request
from chalicelib.web.crawlers import is_crawler, preview_answer
from chalicelib.web.principal import Kind
from chalicelib.web.request import Visit
from chalicelib.web.response import (
    Answer,
    head_answer,
    is_known,
    known_picture_answer,
    picture_answer,
    prefetch_answer,
    see_other,
)

# A picture, or the job that it is still waiting for.
Outcome = Finished | Job
# What an asynchronous endpoint behind a real-time one can help with.
_ELSEWHERE = (EndpointBusy, EndpointMissing, EndpointTooSlow, EndpointUnreachable)


class Painter:
    """Paints for visitors with the models on offer.

    Args:
        settings: the gateway's.
        runtime: gives the SageMaker Runtime client.
        s3: gives the S3 client; asked only by asynchronous models.
    """

    def __init__(
        self, settings: Settings, runtime: Client | None = None, s3: Client | None = None
    ) -> None:
        self._settings = settings
        self._runtime = runtime or LazyClient("sagemaker-runtime", settings.deadline_seconds)
        self._s3 = s3 or LazyClient("s3", read_seconds=5, attempts=2)
        self._allowance = Allowance(settings.protection, self._stored_below)

    @property
    def models(self) -> Sequence[str]:
        """The names of the models on offer, the default first."""
        return list(self._settings.models)

    def defaults(self, request: GenerationRequest) -> Mapping[str, Any]:
        """Return what is known of the own steps, guidance and size of a request's model."""
        return self._settings.models[str(request.model)].defaults

    def is_queued(self, request: GenerationRequest) -> bool:
        """Whether a complete request's model has an asynchronous endpoint alone."""
        return self._settings.models[str(request.model)].endpoint is None

    def request_of(self, identifier: str) -> GenerationRequest:
        """Return what a job was asked for with; raises JobUnknown."""
        return self._jobs(self._queue_of(identifier)).find(identifier).request

    def paint(self, visit: Visit, prompt: str, seed: int | None = None) -> Answer:
        """Answer with the picture of `prompt`, made as the visit's parameters say.

        Args:
            visit: its query holds the contract's other fields.
            prompt: what to paint, as typed.
            seed: what to use where the query leaves the seed open; any, if this does too.

        Raises:
            GatewayError: if the request is not valid, or no picture came of it.
        """
        request = self.complete(read_request(visit, prompt), seed)
        self._note(visit, request)
        self.check_prompt(visit, request)
        # A URL that names its seed is one picture for ever.
        fixed = any(visit.query.get("seed", ()))
        unseen = self._unseen(visit, request)
        if unseen is not None:
            return unseen
        tag = self._id(request)
        if fixed and is_known(visit, tag):
            return known_picture_answer(request, tag)
        return _answer(visit, self.obtain(visit, request), request, fixed=fixed, tag=tag)

    def submit(self, visit: Visit) -> Answer:
        """Answer with the job of the request in the visit's body.

        Raises:
            GatewayError: if the request is not valid, or cannot be queued.
        """
        request = self.complete(read_body(visit))
        self._note(visit, request)
        return receipt(visit, self.enqueue(visit, request))

    def job(self, visit: Visit, identifier: str) -> Answer:
        """Answer with what is known of a job; raises JobUnknown."""
        return receipt(visit, self._jobs(self._queue_of(identifier)).find(identifier))

    def job_picture(self, visit: Visit, identifier: str) -> Answer:
        """Answer with a job's picture, waiting for it as long as the visit may.

        Raises:
            GatewayError: if there is no such job, or no picture came of it.
        """
        queue = self._queue_of(identifier)
        job = self._jobs(queue).find(identifier)
        self._note(visit, job.request)
        unseen = self._unseen(visit, job.request)
        if unseen is not None:
            return unseen
        outcome = self._wait_for(visit, queue, job)
        return _answer(visit, outcome, job.request, fixed=True, tag=identifier)

    def obtain(self, visit: Visit, request: GenerationRequest) -> Outcome:
        """Return the picture of a complete request, or its job if that takes longer.

        Raises:
            GatewayError: if no picture came of it.
        """
        self.check_prompt(visit, request)
        model = self._settings.models[str(request.model)]
        if model.endpoint is not None:
            try:
                with self._allowance.refunding(visit, self._id(request), model.queue is None):
                    return Finished(self._ask(visit, request, model.endpoint))
            except _ELSEWHERE:
                if model.queue is None:
                    raise
        queue = self._queue_for(request)
        with self._waiters(queue).place(self._id(request)) as place:
            # Who may not wait is sent away before a run that nobody would wait for.
            waits = self._patience(visit) > 0
            job = self.enqueue(visit, request, place.take if waits else lambda: None)
            return self._wait(visit, queue, job, place)

    def enqueue(
        self,
        visit: Visit,
        request: GenerationRequest,
        before_a_run: Callable[[], None] = lambda: None,
    ) -> Job:
        """Return the job of a complete request.

        Args:
            visit: pays for the run.
            request: a complete one.
            before_a_run: is called before a run is claimed, and may refuse by raising.

        Raises:
            InvalidRequest: naming `model`, if that has no asynchronous endpoint.
            GatewayError: if it cannot be queued.
        """
        jobs = self._jobs(self._queue_for(request))
        self.check_prompt(visit, request)
        picture = self._id(request)

        def begin() -> None:
            before_a_run()
            self._allowance.spend(visit, picture)

        with self._allowance.refunding(visit, picture):
            revision = self._settings.models[str(request.model)].revision
            return jobs.submit(request, revision, visit.request_id, begin)

    def revisit(self, visit: Visit, identifier: str) -> Outcome:
        """Return a job's picture, or the job if that is still waiting when time is up."""
        queue = self._queue_of(identifier)
        return self._wait_for(visit, queue, self._jobs(queue).find(identifier))

    def complete(self, request: GenerationRequest, seed: int | None = None) -> GenerationRequest:
        """Return the request with a seed and a model; any seed where `seed` is None.

        Raises:
            InvalidRequest: naming `model`, if that is not on offer.
        """
        seed = random_seed() if seed is None else seed
        request = request.complete(seed=seed, model=self._settings.default_model)
        if request.model not in self._settings.models:
            offered = ", ".join(self._settings.models)
            raise InvalidRequest(f"model: must be one of {offered}", field="model")
        return request

    def check_prompt(self, visit: Visit, request: GenerationRequest) -> None:
        """Look for words that are not painted here, as the settings say; negative prompts may.

        Raises:
            PromptRefused: if there are some, and the settings do not say to warn alone.
        """
        protection = self._settings.protection
        if protection.filter_mode == "off":
            return
        found = look(protection.filter_words, request.prompt)
        if found is None:
            return
        visit.notes["prompt_filter"] = found.category
        if protection.filter_mode == "refuse":
            message = f"prompt: has {found.reason}, which are not painted here"
            raise PromptRefused(message, field="prompt")
        visit.remarks["X-Prompt-Warning"] = found.category

    def token_for(self, visit: Visit, request: GenerationRequest) -> str | None:
        """Return what a picture's address needs to be opened by who has no key, if anything.

        A visitor who came with a link gets the address with that very link.
        """
        if visit.guest.kind is Kind.LINK:
            return visit.link
        return picture_token(self._settings.protection, visit.guest, self._id(request))

    def _unseen(self, visit: Visit, request: GenerationRequest) -> Answer | None:
        """Answer a visit that no person looks at: it costs no run, and sees what exists."""
        if visit.is_prefetch:
            return prefetch_answer()
        if visit.method == "HEAD":
            return head_answer(request.format)
        if not is_crawler(visit):
            return None
        picture = self._existing(request)
        if picture is None:
            return preview_answer(visit, request.prompt)
        return _answer(visit, picture, request, fixed=True, tag=self._id(request))

    def _existing(self, request: GenerationRequest) -> Finished | None:
        """Return the picture of a complete request, if somebody had it painted before."""
        queue = self._settings.models[str(request.model)].queue
        if queue is None:
            return None
        jobs = self._jobs(queue)
        try:
            return jobs.picture(jobs.find(self._id(request)))
        except JobUnknown:
            return None

    def _id(self, request: GenerationRequest) -> str:
        return job_id(request, self._settings.models[str(request.model)].revision)

    def _note(self, visit: Visit, request: GenerationRequest) -> None:
        visit.notes.update(request.to_dict())
        if not self._settings.log_prompts:
            del visit.notes["prompt"], visit.notes["negative_prompt"]

    def _ask(self, visit: Visit, request: GenerationRequest, name: str) -> bytes:
        self._allowance.spend(visit, self._id(request))
        deadline = Deadline(visit.arrived + self._settings.deadline_seconds)
        before = visit.elapsed
        try:
            endpoint = Endpoint(self._runtime, name)
            body = endpoint.invoke(request, deadline, trace=visit.request_id)
            visit.notes["bytes"] = len(body)
            return body
        finally:
            visit.notes["endpoint_milliseconds"] = round((visit.elapsed - before) * 1_000, 1)

    def _wait_for(self, visit: Visit, queue: Queue, job: Job) -> Outcome:
        with self._waiters(queue).place(job.id) as place:
            return self._wait(visit, queue, job, place)

    def _wait(self, visit: Visit, queue: Queue, job: Job, place: Place) -> Outcome:
        """Return the job with its picture, if that is there before this visit must end."""
        visit.notes.update(job=job.id, attempt=job.attempt)
        jobs, picture = self._jobs(queue), None
        if job.state is State.DONE:
            picture = jobs.picture(job)
        elif job.state is State.WAITING and (seconds := self._patience(visit)) > 0:
            place.take()
            job, picture = jobs.wait(job, Deadline(time.monotonic() + seconds))
        if picture is not None:
            return picture
        if job.error is not None:
            raise job.error
        return job

    def _patience(self, visit: Visit) -> float:
        return patience(visit, self._settings.deadline_seconds - visit.elapsed)

    def _queue_for(self, request: GenerationRequest) -> Queue:
        queue = self._settings.models[str(request.model)].queue
        if queue is None:
            raise InvalidRequest("model: has no asynchronous endpoint", field="model")
        return queue

    def _queue_of(self, identifier: str) -> Queue:
        model = self._settings.models.get(model_of(identifier))
        if model is None or model.queue is None:
            raise JobUnknown("There is no such picture.")
        return model.queue

    def _jobs(self, queue: Queue) -> Jobs:
        return Jobs(self._store(queue), AsyncEndpoint(self._runtime, queue.endpoint))

    def _waiters(self, queue: Queue) -> Waiters:
        return Waiters(self._store(queue), self._settings.most_waiting)

    def _store(self, queue: Queue) -> Store:
        return self._stored_below(queue.bucket, queue.prefix)

    def _stored_below(self, bucket: str, prefix: str) -> Store:
        return Store(self._s3.client(), bucket, prefix)


def _answer(
    visit: Visit, outcome: Outcome, request: GenerationRequest, *, fixed: bool, tag: str
) -> Answer:
    """Answer with the picture, or as suits a client whose picture is not ready."""
    if isinstance(outcome, Job):
        return not_ready(visit, outcome)
    if outcome.link is not None:
        return see_other(outcome.link)
    return picture_answer(outcome.body, request, fixed=fixed, tag=tag)


def random_seed() -> int:
    """Return any seed of the contract's, each as likely as the next."""
    return secrets.randbelow(2**32)
