"""The paths of the server.

GET  /ping               for SageMaker: 200 when the model can generate images, else 503
POST /invocations        for SageMaker: a request to the script
GET, POST /predict       for people: the same, with a picture as the default response
GET  /progress/<trace>   how far a request is
GET  /health, /metrics   for operators
GET  /                   a page
"""

from __future__ import annotations

import asyncio
import json
import math
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .. import log
from ..errors import ServerError, failed
from ..queue.traces import as_trace
from ..service import Call, Reply, Service, State, stopping
from ..settings import Settings
from .pages import PageGuard

_INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
# A body that has not arrived by then never will.
_BODY_SECONDS = 60.0
_IMAGES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,18})?")
_HEALTHY = {State.READY, State.BUSY}
_SOFTWARE = ("torch", "diffusers", "transformers", "starlette", "uvicorn")


class Handlers:
    """One method for each path."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._page = (Path(__file__).parent / "page.html").read_text("utf-8")

    async def ping(self, _request: Request) -> Response:
        return Response(status_code=200 if self._service.state in _HEALTHY else 503)

    async def invocations(self, request: Request) -> Response:
        with _refused_at_the_end():
            body = await _body(request, self._settings.largest_request)
            return await self._answer(request, body, {}, self._settings.request_seconds)

    async def predict(self, request: Request) -> Response:
        if request.method == "HEAD":  # Starlette adds it to GET, and it would generate an image
            raise HTTPException(405, headers={"Allow": "GET, POST"})
        with _refused_at_the_end():
            body = await _body(request, self._settings.largest_request)
            if request.method == "GET":
                body = json.dumps(_query(request)).encode()
            headers = {"content-type": "application/json", "accept": _accept(request, body)}
            return await self._answer(request, body, headers, math.inf)

    async def _answer(
        self, request: Request, body: bytes, headers: dict[str, str], patience: float
    ) -> Response:
        named = request.headers.get(_INFERENCE_ID) or request.query_params.get("trace")
        call = Call(
            body,
            {**request.headers, **headers},
            patience,
            as_trace(named),
            lambda: _left(request),
        )
        return _response(await self._service.answer(call))

    async def progress(self, request: Request) -> Response:
        preview = request.query_params.get("preview", "") not in {"", "0"}
        progress = self._service.progress(request.path_params["trace"], preview=preview)
        if progress is None:
            raise HTTPException(404, "No request has this name.")
        return JSONResponse(progress, headers={"Cache-Control": "no-store"})

    async def health(self, _request: Request) -> Response:
        state = {
            **self._service.health(),
            "model": self._settings.name,
            "software": _software(),
        }
        status = 200 if state["state"] in _HEALTHY else 503
        return JSONResponse(state, status, headers={"Cache-Control": "no-store"})

    async def metrics(self, _request: Request) -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return PlainTextResponse(self._service.metrics(), headers={"Content-Type": kind})

    async def page(self, _request: Request) -> Response:
        policy = (
            "default-src 'none'; img-src 'self' data: blob:; connect-src 'self';"
            " style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
        )
        return HTMLResponse(self._page, headers={"Content-Security-Policy": policy})


def make_app(service: Service, settings: Settings) -> Any:
    """Return the ASGI application."""
    handlers = Handlers(service, settings)
    routes = [
        Route("/ping", handlers.ping),
        Route("/invocations", handlers.invocations, methods=["POST"]),
        Route("/predict", handlers.predict, methods=["GET", "POST"]),
        Route("/progress/{trace}", handlers.progress),
        Route("/health", handlers.health),
        Route("/metrics", handlers.metrics),
        Route("/", handlers.page),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error,
            ServerError: _server_error,
            Exception: _unexpected,
        },
    )
    app.router.redirect_slashes = False
    return PageGuard(app, local=settings.host in {"127.0.0.1", "localhost", "::1"})


@contextmanager
def _refused_at_the_end() -> Iterator[None]:
    """Refuse what the process cannot wait for when it ends: uvicorn cancels it.

    Raises:
        ServerError: 503; uvicorn would respond with a 500.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        raise stopping() from error


async def _body(request: Request, largest: int) -> bytes:
    """Return the body of a request.

    Raises:
        ServerError: 413 for one that is too large, 408 for one that does not arrive.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                # Read to its end, so that the caller reads the response instead of a reset.
                if size <= largest:
                    parts.append(part)
                elif size > 4 * largest:
                    break
    except TimeoutError as error:
        raise ServerError(408, "timeout", "The request's body did not arrive.") from error
    if size > largest:
        raise ServerError(413, "too_large", f"The body must have at most {largest} bytes.")
    return b"".join(parts)


async def _left(request: Request) -> None:
    """Return once the caller has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _query(request: Request) -> dict[str, Any]:
    """Return the fields of a request in a query.

    Raises:
        ServerError: 400 for one that is given twice, because it is unclear which value is meant.
    """
    fields: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name in fields:
            raise ServerError(400, "invalid_request", f"{name[:64]}: is given twice", name[:64])
        fields[name] = _value(name, text)
    fields.pop("trace", None)
    return fields


def _value(name: str, text: str) -> Any:
    """Return the value of a parameter in a query: a number, unless the field is a text."""
    if name.endswith("prompt") or not _NUMBER.fullmatch(text):
        return text
    return json.loads(text)


def _accept(request: Request, body: bytes) -> str:
    """Return what the script is to return: a picture, unless JSON is named or all there is."""
    accept = request.headers.get("accept", "")
    if accept.partition(";")[0].strip().lower() == "application/json":
        return "application/json"
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        fields = {}
    if fields.get("describe"):
        return "application/json"
    return _IMAGES.get(str(fields.get("format")), "image/png")


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    for name, value in reply.headers.items():
        response.headers[name] = value
    return response


def _software() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by its registration
    codes = {404: "not_found", 405: "method_not_allowed"}
    made = ServerError(
        error.status_code, codes.get(error.status_code, "invalid_request"), f"{error.detail}"
    )
    response = _response(Reply.of(made))
    response.headers.update(dict(error.headers or {}))
    return response


async def _server_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ServerError)  # noqa: S101 - by its registration
    return _response(Reply.of(error))


async def _unexpected(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ClientDisconnect):
        log.failure("server_failed", error)
    return _response(Reply.of(failed(error)))
