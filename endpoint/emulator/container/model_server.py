"""The model server: `/ping` and `/invocations` in front of worker processes.

Imitates multi-model-server 1.1.11 as SageMaker's Hugging Face images run it. It reads these
environment variables of the container, with the defaults of the image:

    SAGEMAKER_PROGRAM                       inference.py, a module in the code folder
    SAGEMAKER_MODEL_SERVER_WORKERS          1 (the image: one per GPU, or per processor without one)
    SAGEMAKER_MODEL_SERVER_TIMEOUT          60 *minutes* for an answer, then the worker is killed
    SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS  the same in seconds, which also covers the loading
    MMS_MAX_REQUEST_SIZE                    6,553,500 bytes
    MMS_MAX_RESPONSE_SIZE                   6,553,500 bytes
    MMS_JOB_QUEUE_SIZE                      100 waiting requests
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from endpoint.emulator.container.toolkit import Response, failure
from endpoint.emulator.process.http_server import QuietHandler, Server, serving
from endpoint.emulator.process.processes import Child

_DEFAULT_SIZE = "6553500"
_HEALTHY = Response(200, {"content-type": "application/json"}, b'{\n  "status": "Healthy"\n}\n')
_NOT_FOUND = failure(
    404,
    "Requested resource is not found, please refer to API document.",
    "ResourceNotFoundException",
)


@dataclass(frozen=True)
class Job:
    """A request that waits for the worker, and the future of its response."""

    headers: Mapping[str, str]
    body: bytes
    response: Future[Response]


class Worker(threading.Thread):
    """Hands jobs one by one to its process, and starts a new process when that one dies."""

    def __init__(self, model_server: ModelServer) -> None:
        super().__init__(daemon=True, name="model-worker")
        self._server = model_server
        self._child: Child | None = None
        self._pipe: Connection | None = None
        self._stopped = False

    def run(self) -> None:
        while not self._stopped:
            pipe = self._loaded()
            job = self._server.jobs.get()
            if job is None:
                return
            if pipe is not None:
                job.response.set_result(self._ask(pipe, job))
            else:
                job.response.set_result(self._died())

    def stop(self) -> None:
        """Kill the process, which also ends the job it was working on."""
        self._stopped = True
        if self._child is not None:
            self._child.kill()
        # Wakes the worker, which may be waiting for a job.
        with suppress(queue.Full):
            self._server.jobs.put_nowait(None)

    def _loaded(self) -> Connection | None:
        """Return the pipe to a process that has loaded, or None if it died while loading."""
        if self._pipe is None:
            self._pipe = self._start()
        return self._pipe

    def _start(self) -> Connection | None:
        # Not standard input, which ends the child with its parent.
        ours, theirs = socket.socketpair()
        server = self._server
        with theirs:
            self._child = Child(
                "the model's process",
                "endpoint.emulator.container.model_worker",
                [str(theirs.fileno()), str(server.model_dir), str(server.code)],
                environment=server.environment,
                keep_open=[theirs.fileno()],
            )
        pipe = Connection(ours.detach())
        if self._stopped:
            self._reap(pipe)
            return None
        try:
            if pipe.poll(server.load_seconds):
                pipe.recv()
                return pipe
        except (EOFError, OSError):
            pass
        self._reap(pipe)
        return None

    def _ask(self, pipe: Connection, job: Job) -> Response:
        try:
            pipe.send((job.headers, job.body))
            if not pipe.poll(self._server.answer_seconds):
                return self._died(pipe)
            answer = Response(*pipe.recv())
        except (EOFError, OSError):
            return self._died(pipe)
        if len(answer.body) > self._server.longest_response:
            # The real server's Netty front end drops the connection to its own worker here.
            return self._died(pipe)
        return answer

    def _died(self, pipe: Connection | None = None) -> Response:
        self._reap(pipe)
        return failure(500, "Worker died.")

    def _reap(self, pipe: Connection | None) -> None:
        self._pipe = None
        if pipe is not None:
            pipe.close()
        if self._child is not None:
            self._child.kill()


class ModelServer:
    """Serves a model folder and a code folder as a serving container does.

    Args:
        code: the folder with the script; in a real container this is `code/` below `model_dir`.
        model_dir: the model's folder, as `model_fn` gets it.
        environment: the container's variables; see the module's list.
    """

    def __init__(self, code: Path, model_dir: Path, environment: Mapping[str, str]) -> None:
        self.code, self.model_dir, self.environment = code, model_dir, dict(environment)
        limit = self.environment.get("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS")
        minutes = float(self.environment.get("SAGEMAKER_MODEL_SERVER_TIMEOUT") or 60)
        self.answer_seconds = float(limit) if limit else minutes * 60
        self.load_seconds = float(limit) if limit else None
        self.longest_request = self._bytes("MMS_MAX_REQUEST_SIZE")
        self.longest_response = self._bytes("MMS_MAX_RESPONSE_SIZE")
        size = int(self.environment.get("MMS_JOB_QUEUE_SIZE") or 100)
        self.jobs: queue.Queue[Job | None] = queue.Queue(size)
        count = int(self.environment.get("SAGEMAKER_MODEL_SERVER_WORKERS") or 1)
        self._workers = [Worker(self) for _ in range(count)]

    def _bytes(self, variable: str) -> int:
        return int(self.environment.get(variable) or _DEFAULT_SIZE)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[Server]:
        """Serve on 127.0.0.1:`port` while the context lasts; the model loads meanwhile."""
        with serving(_Requests, port, model_server=self) as server:
            for worker in self._workers:
                worker.start()
            try:
                yield server
            finally:
                for worker in self._workers:
                    worker.stop()

    def invoke(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Queue one request and wait for its response, even if the client has gone."""
        if len(body) > self.longest_request:
            return Response(413, {}, b"")
        job = Job(headers, body, Future())
        try:
            self.jobs.put_nowait(job)
        except queue.Full:
            return failure(
                503,
                "No worker is available to serve request: model",
                "ServiceUnavailableException",
            )
        return job.response.result()


class _Requests(QuietHandler):
    def _serve(self) -> None:
        """Answer by the path alone: any method, and whatever follows a question mark."""
        body = self.body()
        path = self.path.partition("?")[0]
        if path == "/ping":
            # /ping reports that the server is up, not that the model is loaded or can be.
            return self._send(_HEALTHY)
        if path != "/invocations":
            return self._send(_NOT_FOUND)
        server: ModelServer = self.server.model_server  # type: ignore[attr-defined]
        return self._send(server.invoke(dict(self.headers.items()), body))

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - inherited names

    def _send(self, answer: Response) -> None:
        self.answer(answer.status, answer.headers.items(), answer.body)


def container_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with a container's variables on top."""
    return {**os.environ, **variables}
