"""From the body of a request to the response: read, queue, generate, write. No HTTP server."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from . import log
from .errors import Refused, ServerError, failed, unreadable
from .metrics import Metrics, gpu_memory
from .queue.job import Job, Stage
from .queue.traces import Traces
from .queue.worker import Worker
from .script.functions import JSON, Context, Script, accepted
from .script.thread import ScriptThread
from .settings import Settings

# SageMaker drops asynchronous responses with more than 4096 bytes of headers, its own included:
# https://github.com/aws/deep-learning-containers/issues/4668
_LARGEST_HEADERS = 3_000
# How long a caller is asked to wait while this server starts or ends.
_START_SECONDS, _STOP_SECONDS = 10.0, 10.0


class State(StrEnum):
    """What /health reports, as in cog (https://cog.run/http)."""

    STARTING = "STARTING"
    READY = "READY"
    BUSY = "BUSY"
    UNHEALTHY = "UNHEALTHY"
    STOPPING = "STOPPING"


@dataclass(frozen=True)
class Call:
    """One request, as it came over HTTP.

    Attributes:
        headers: as the script reads them.
        patience: seconds that the caller waits if the request does not say so.
        trace: names it in the log and in /progress, or None.
        left: returns once the caller has left.
    """

    body: bytes
    headers: Mapping[str, str]
    patience: float
    trace: str | None
    left: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Reply:
    """A response, whose body is complete."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: ServerError) -> Reply:
        """Return the response of an error."""
        return cls(error.status, error.body(), {"Content-Type": JSON, **error.headers})


class Service:
    """Answers requests with the script's functions.

    Args:
        script: loaded by the worker.
        worker: not started yet.
    """

    def __init__(self, script: Script, worker: Worker, metrics: Metrics) -> None:
        self._script, self._worker, self._metrics = script, worker, metrics
        self._thread, self._lookups = ScriptThread("script"), ScriptThread("lookups")
        self._answering = 0
        self._stopping = False
        self.traces = Traces()

    @classmethod
    def of(cls, settings: Settings) -> Service:
        """Return what serves the script that the settings name; nothing is loaded yet."""
        metrics = Metrics()
        script = Script(settings.code, settings.program, settings.model_dir)
        worker = Worker(script.load, metrics, stall_seconds=settings.stall_seconds)
        return cls(script, worker, metrics)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()
        self._lookups.start()
        self._worker.start()

    @property
    def state(self) -> State:
        if self.fatal:
            return State.UNHEALTHY
        if self._stopping:
            return State.STOPPING
        if self._worker.engine is None:
            return State.STARTING
        return State.BUSY if any(self._worker.waiting.counts) else State.READY

    @property
    def fatal(self) -> str | None:
        """Why this process must end, or None."""
        if self._worker.fatal is None and self._worker.stalled:
            return "Image generation shows no progress."
        return self._worker.fatal

    @property
    def error(self) -> BaseException | None:
        """What ended the worker, for the log."""
        return self._worker.error

    @property
    def idle(self) -> bool:
        """Whether every request has its response."""
        return self._answering == 0

    def stop(self, seconds: float) -> None:
        """Accept nothing any more, and finish what can be finished in so many seconds."""
        self._stopping = True
        self._worker.waiting.close(stopping, time.monotonic() + seconds)

    def refuse_all(self) -> None:
        """Answer all requests that are not finished."""
        self._stopping = True
        self._worker.waiting.close(stopping, 0.0)
        self._worker.waiting.refuse_all(stopping)

    async def answer(self, call: Call) -> Reply:
        """Return the response to a request; raises nothing."""
        began = time.monotonic()
        self._answering += 1
        try:
            reply = await self._answer(call)
        except ServerError as error:
            reply = Reply.of(error)
        finally:
            self._answering -= 1
        seconds = time.monotonic() - began
        self._metrics.responses.add(str(reply.status))
        log.event(
            "response",
            status=reply.status,
            seconds=round(seconds, 3),
            bytes=len(reply.body),
            trace=call.trace,
        )
        return reply

    async def _answer(self, call: Call) -> Reply:
        self._require_open()
        context = Context(self._script.model_dir, call.headers)
        request = await self._read(call, context)
        if self._worker.needs_no_generation(request):
            return await self._reply(partial(self._at_once, request, context), context)
        result = await self._generate(call, request, context)
        if isinstance(result, ServerError):
            raise result
        return await self._reply(lambda: self._script.write(result, context), context)

    def _require_open(self) -> None:
        state = self.state
        if state is State.STARTING:
            message = "The model is still being loaded."
            raise Refused("starting", message, _START_SECONDS)
        if state is State.STOPPING:
            raise stopping()
        if state is State.UNHEALTHY:
            message = "This server cannot generate images any more, and ends."
            raise Refused("unhealthy", message, _STOP_SECONDS)

    async def _read(self, call: Call, context: Context) -> Any:
        """Return what the script reads, or an error of its own about it."""
        try:
            return await self._checked(call, context)
        except Exception as error:  # whatever the script raises is about the request
            raise unreadable(error) from error

    async def _checked(self, call: Call, context: Context) -> Any:
        content_type = context.get_request_header(0, "Content-Type")

        def read() -> tuple[Any, Callable[[], Any] | None]:
            request = self._script.read(call.body, content_type, context)
            prepare = self._script.preparation(request, context)
            return (request, prepare) if prepare else (self._worker.checked(request), None)

        request, prepare = await self._thread.call(read)
        if prepare is None:
            return request
        # In a thread of its own: other requests are read and answered meanwhile.
        error = await self._lookups.call(prepare)
        return error or await self._thread.call(lambda: self._worker.checked(request))

    def _at_once(self, request: Any, context: Context) -> bytes:
        """Return the body for what needs no generating: an error, or a description."""
        if not isinstance(request, Exception):
            request = self._script.predict(request, context)
        return self._script.write(request, context)

    async def _generate(self, call: Call, request: Any, context: Context) -> Any:
        """Return the result of a request, which may be an error of the script's."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def deliver(result: Any) -> None:
            loop.call_soon_threadsafe(_set, future, result)

        job = Job(
            request,
            context,
            deliver,
            deadline=self._deadline(call, context),
            trace=call.trace,
        )
        self._worker.waiting.put(job)
        self.traces.add(job)
        try:
            left = await _wait(job, future, call.left())
            if not future.done() and not left:
                error = self._worker.waiting.give_up(job)
                self._metrics.dropped.add(error.code)
                raise error
        finally:
            if not future.done():
                self._worker.waiting.withdraw(job)
        if not future.done():
            self._metrics.dropped.add("left")
            log.event("caller_left", stage=job.stage, step=job.step, trace=job.trace)
            # Nobody reads it; the status is nginx's for a client that has left.
            raise ServerError(499, "left", "The caller has left.")
        result = future.result()
        if isinstance(result, Exception):
            self._metrics.dropped.add(str(getattr(result, "code", "failed")))
        else:
            self._metrics.pictures.observe(job.finished - job.arrived)
        return result

    def _deadline(self, call: Call, context: Context) -> float:
        """Return when the caller leaves, by `time.monotonic`."""
        stated = self._script.deadline(context)
        if stated is not None and stated < math.inf:
            return stated
        return time.monotonic() + call.patience

    async def _reply(self, write: Callable[[], bytes], context: Context) -> Reply:
        try:
            body = await self._thread.call(write)
        except Exception as error:
            log.failure("generation_failed", error)
            raise failed(error) from error
        (processor,) = context.request_processor
        headers = {"Content-Type": JSON if processor.status >= 400 else accepted(context)}
        headers |= processor.response_headers
        if sum(len(name) + len(value) + 4 for name, value in headers.items()) > _LARGEST_HEADERS:
            log.event("headers_dropped", names=sorted(headers))
            headers = {"Content-Type": headers["Content-Type"][:200]}
        return Reply(processor.status, body, headers)

    def progress(self, trace: str, *, preview: bool) -> dict[str, Any] | None:
        """Return how far a request is, for JSON; None if there is none of that name."""
        job = self.traces.find(trace)
        if job is None:
            return None
        left = self._worker.waiting.seconds_left(job)
        shown = {"preview": job.show()} if preview and job.stage is not Stage.DONE else {}
        return {
            "state": job.stage,
            "step": job.step,
            "steps": job.steps,
            "seconds_left": None if left is None else round(left, 1),
            **shown,
        }

    def health(self) -> dict[str, Any]:
        """Return what /health shows of the queue and the engine."""
        waiting, generating = self._worker.waiting.counts
        engine = self._worker.engine
        return {
            "state": self.state,
            **({"reason": self.fatal} if self.fatal else {}),
            "queue": {
                "waiting": waiting,
                "painting": generating,
                "seconds": round(self._worker.waiting.seconds, 3),
            },
            "batch": engine.describe() if engine else None,
        }

    def metrics(self) -> str:
        """Return the text of /metrics."""
        queue = self._worker.waiting
        waiting, generating = queue.counts
        return self._metrics.prometheus(
            {
                "ready": ("1 while /ping is 200.", float(self.state in {"READY", "BUSY"})),
                "queue_length": ("Requests that wait.", waiting),
                "painting": ("Requests that are generated.", generating),
                "queue_seconds": ("Expected seconds of all that.", queue.seconds),
                "queue_oldest_seconds": ("How long the first one waits.", queue.oldest),
                **gpu_memory(),
            }
        )

    def embedded_metrics(self, endpoint: str | None) -> str:
        """Return the line of metrics for CloudWatch."""
        seconds = self._worker.waiting.seconds
        return self._metrics.embedded(seconds, endpoint, round(time.time() * 1000))


async def _wait(job: Job, result: asyncio.Future[Any], leaving: Awaitable[None]) -> bool:
    """Wait for a result, until the caller has left or could not get it in time any more.

    Returns:
        Whether the caller has left.
    """
    left = asyncio.ensure_future(leaving)
    try:
        # A request that has not begun so late could not be finished, and the caller's last chance
        # for a response is before its deadline: a step can be long.
        for moment in (job.deadline - job.seconds, job.deadline):
            seconds = max(0.0, moment - time.monotonic())
            timeout = seconds if moment < math.inf else None
            await asyncio.wait({result, left}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if result.done() or left.done() or job.stage is Stage.WAITING:
                break
        return left.done()
    finally:
        left.cancel()


def stopping() -> ServerError:
    """Return the error for a request that reaches a server which ends."""
    return Refused("stopping", "This server ends; another one takes over.", _STOP_SECONDS)


def _set(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():  # else the caller has left
        future.set_result(result)
