"""The way of a picture: from what a visitor asked for to the bytes that answer it."""

from __future__ import annotations

import json
import secrets
import time

from chalicelib.answers import Answer, head_answer, picture_answer, prefetch_answer, see_other
from chalicelib.clients import LazyClient
from chalicelib.deadline import Deadline
from chalicelib.errors import (
    EndpointBusy,
    EndpointMissing,
    EndpointTooSlow,
    EndpointUnreachable,
    InvalidRequest,
    JobUnknown,
)
from chalicelib.generation import GenerationRequest, InvalidField
from chalicelib.jobs import Finished, Job, Jobs, State, model_of
from chalicelib.patience import not_ready, patience, receipt
from chalicelib.sagemaker import AsyncEndpoint, Client, Endpoint
from chalicelib.settings import Model, Queue, Settings
from chalicelib.store import Store
from chalicelib.visits import Visit
from chalicelib.waiters import Waiters

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

    def paint(self, visit: Visit, prompt: str, seed: int | None = None) -> Answer:
        """Answer with the picture of `prompt`, made as the visit's parameters say.

        Args:
            visit: its query holds the contract's other fields.
            prompt: what to paint, as typed.
            seed: what to use where the query leaves the seed open; any, if this does too.

        Raises:
            GatewayError: if the request is not valid, or no picture came of it.
        """
        request = self._complete(read_request(visit, prompt), seed)
        self._note(visit, request)
        if visit.is_prefetch:
            return prefetch_answer()
        if visit.method == "HEAD":
            return head_answer(request.format)
        # A URL that names its seed is one picture for ever.
        fixed = any(visit.query.get("seed", ()))
        return self._answer(visit, request, fixed=fixed)

    def submit(self, visit: Visit) -> Answer:
        """Answer with the job of the request in the visit's body.

        Raises:
            GatewayError: if the request is not valid, or cannot be queued.
        """
        request = self._complete(read_body(visit), None)
        self._note(visit, request)
        model = self._settings.models[str(request.model)]
        if model.queue is None:
            raise InvalidRequest("model: has no asynchronous endpoint", field="model")
        job = self._jobs(model.queue).submit(request, model.revision, visit.request_id)
        return receipt(visit, job)

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
        if visit.is_prefetch:
            return prefetch_answer()
        if visit.method == "HEAD":
            return head_answer(job.request.format)
        return self._wait(visit, queue, job, fixed=True)

    def _complete(self, request: GenerationRequest, seed: int | None) -> GenerationRequest:
        seed = random_seed() if seed is None else seed
        request = request.complete(seed=seed, model=self._settings.default_model)
        if request.model not in self._settings.models:
            offered = ", ".join(self._settings.models)
            raise InvalidRequest(f"model: must be one of {offered}", field="model")
        return request

    def _note(self, visit: Visit, request: GenerationRequest) -> None:
        visit.notes.update(request.to_dict())
        if not self._settings.log_prompts:
            del visit.notes["prompt"], visit.notes["negative_prompt"]

    def _answer(self, visit: Visit, request: GenerationRequest, *, fixed: bool) -> Answer:
        model = self._settings.models[str(request.model)]
        if model.endpoint is not None:
            try:
                body = self._ask(visit, request, model.endpoint)
                return picture_answer(body, request, fixed=fixed)
            except _ELSEWHERE:
                if model.queue is None:
                    raise
        return self._queue(visit, request, model, fixed=fixed)

    def _ask(self, visit: Visit, request: GenerationRequest, name: str) -> bytes:
        deadline = Deadline(visit.arrived + self._settings.deadline_seconds)
        before = visit.elapsed
        try:
            endpoint = Endpoint(self._runtime, name)
            body = endpoint.invoke(request, deadline, trace=visit.request_id)
            visit.notes["bytes"] = len(body)
            return body
        finally:
            visit.notes["endpoint_milliseconds"] = round((visit.elapsed - before) * 1_000, 1)

    def _queue(
        self, visit: Visit, request: GenerationRequest, model: Model, *, fixed: bool
    ) -> Answer:
        if model.queue is None:
            raise RuntimeError(f"the model {model.name} has no endpoint")
        job = self._jobs(model.queue).submit(request, model.revision, visit.request_id)
        return self._wait(visit, model.queue, job, fixed=fixed)

    def _wait(self, visit: Visit, queue: Queue, job: Job, *, fixed: bool) -> Answer:
        """Answer with the job's picture, or as suits a client whose picture is not ready."""
        visit.notes.update(job=job.id, attempt=job.attempt)
        picture = None
        if job.state in {State.WAITING, State.DONE}:
            job, picture = self._watch(visit, queue, job)
        if picture is not None:
            return _picture(picture, job, fixed=fixed)
        if job.error is not None:
            raise job.error
        return not_ready(visit, job)

    def _watch(self, visit: Visit, queue: Queue, job: Job) -> tuple[Job, Finished | None]:
        jobs = self._jobs(queue)
        remaining = self._settings.deadline_seconds - visit.elapsed
        seconds = patience(visit, remaining)
        if job.state is State.DONE or seconds <= 0:
            return job, jobs.picture(job)
        with Waiters(self._store(queue), self._settings.most_waiting).place():
            return jobs.wait(job, Deadline(time.monotonic() + seconds))

    def _queue_of(self, identifier: str) -> Queue:
        model = self._settings.models.get(model_of(identifier))
        if model is None or model.queue is None:
            raise JobUnknown("There is no such picture.")
        return model.queue

    def _jobs(self, queue: Queue) -> Jobs:
        return Jobs(self._store(queue), AsyncEndpoint(self._runtime, queue.endpoint))

    def _store(self, queue: Queue) -> Store:
        return Store(self._s3.client(), queue.bucket, queue.prefix)


def _picture(picture: Finished, job: Job, *, fixed: bool) -> Answer:
    if picture.link is not None:
        return see_other(picture.link)
    return picture_answer(picture.body, job.request, fixed=fixed)


def read_request(visit: Visit, prompt: str) -> GenerationRequest:
    """Return the request that the query's parameters and `prompt` make.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    parameters = visit.parameters()
    if "prompt" in parameters:
        raise InvalidRequest("prompt: stands in the path, not in the query", field="prompt")
    try:
        return GenerationRequest.from_query({**parameters, "prompt": prompt})
    except InvalidField as error:
        raise InvalidRequest(str(error), field=error.field) from error


def read_body(visit: Visit) -> GenerationRequest:
    """Return the request that stands in the visit's body, as JSON.

    Raises:
        InvalidRequest: if it is no JSON object, or for the first field that is wrong.
    """
    try:
        data = json.loads(visit.body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body must be JSON.") from error
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    try:
        return GenerationRequest.from_dict(data)
    except InvalidField as error:
        raise InvalidRequest(str(error), field=error.field) from error


def random_seed() -> int:
    """Return any seed of the contract's, each as likely as the next."""
    return secrets.randbelow(2**32)
