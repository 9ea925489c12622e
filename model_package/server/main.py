"""The life of the server's process: start, signals, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Generator, Mapping, Sequence

import uvicorn

from . import log
from .service import Service, State
from .settings import Settings, Unusable
from .web.app import make_app

# For the last responses on their way.
_SEND_SECONDS = 1.5
_TICK_SECONDS = 0.1
_METRICS_SECONDS = 60.0
# A peer that reuses a connection which was just closed sees a failed request.
_KEEP_ALIVE_SECONDS = 75


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until a signal; return the process's exit code."""
    try:
        settings = Settings.read(arguments, environ)
        listener = _listen(settings.host, settings.port)
    except Unusable as error:
        sys.stderr.write(f"Easel: {error}\n")
        return 1
    if settings.hub_id is not None:
        os.environ["EASEL_MODEL_ID"] = settings.hub_id  # where the script reads it
    # OpenMP's threads spin while they wait for one another, which takes a busy laptop's other work,
    # and /ping, their turn.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    _allow_many_connections()
    return asyncio.run(_Process(settings, listener).run())


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that /ping is answered from the first moment.

    Raises:
        Unusable: if the address cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        # A restart must not wait for the last connections' TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        reason = error.strerror or error
        raise Unusable(f"{host}:{port} cannot be used: {reason}; see --host and --port") from error
    return listener


def _allow_many_connections() -> None:
    """Raise the limit of open files, 1024 by default: each waiting caller is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # `_Process` handles them


class _Process:
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings, self._listener = settings, listener
        self._service = Service.of(settings)
        self._signal: signal.Signals | None = None
        self._next_metrics = time.monotonic() + _METRICS_SECONDS

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        self._service.start()
        server = _Server(
            uvicorn.Config(
                make_app(self._service, self._settings),
                http="h11",
                loop="asyncio",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=1,
            )
        )
        host, port = self._listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.event("listening", url=f"http://{shown}:{port}", model=self._settings.name)
        serving = asyncio.create_task(server.serve(sockets=[self._listener]))
        code = await self._until_end()
        server.should_exit = True
        await serving
        return code

    def _signalled(self, number: signal.Signals) -> None:
        if self._signal is not None and number == signal.SIGINT:
            os._exit(130)  # a second Ctrl-C
        self._signal = self._signal or number

    async def _until_end(self) -> int:
        """Return the exit code once this process has to end and all requests have a response."""
        while self._signal is None:
            if self._service.fatal is not None:
                return await self._end_unhealthy(self._service.fatal)
            self._write_metrics()
            await asyncio.sleep(_TICK_SECONDS)
        return await self._end_by(self._signal)

    async def _end_by(self, number: signal.Signals) -> int:
        # A person at the terminal does not want to wait.
        seconds = 0.0 if number == signal.SIGINT else self._settings.stop_seconds
        if self._service.state is State.STARTING:
            seconds = 0.0
        log.event("stopping", signal=number.name)
        began = time.monotonic()
        self._service.stop(seconds)
        while not self._service.idle and time.monotonic() < began + seconds:
            await asyncio.sleep(_TICK_SECONDS)
        await self._answer_all()
        log.event("stopped", seconds=round(time.monotonic() - began, 3))
        return 130 if number == signal.SIGINT else 0

    async def _end_unhealthy(self, reason: str) -> int:
        error = self._service.error
        details = {} if error is None else {"error": f"{error}"}
        log.event("server_unhealthy", reason=reason, **details)
        await self._answer_all()
        return 1

    async def _answer_all(self) -> None:
        self._service.refuse_all()
        until = time.monotonic() + _SEND_SECONDS
        while not self._service.idle and time.monotonic() < until:
            await asyncio.sleep(_TICK_SECONDS / 5)

    def _write_metrics(self) -> None:
        now = time.monotonic()
        if self._settings.emf and now >= self._next_metrics:
            self._next_metrics = now + _METRICS_SECONDS
            sys.stdout.write(self._service.embedded_metrics(self._settings.endpoint) + "\n")
            sys.stdout.flush()
