"""API Gateway's REST API in front of a Lambda function, with the behaviour `chalice local` lacks.

Sources: "Amazon API Gateway important notes", "Quotas for configuring and running a REST API",
"Gateway response types" and "Binary media types for REST APIs" in API Gateway's developer guide;
"Error handling with API Gateway" in Lambda's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import Protocol

from endpoint.core.local_addresses import foreign_host
from endpoint.emulator.apigateway.api_gateway_document import Document, Match, Route
from endpoint.emulator.apigateway.gateway_responses import Failure, render, unknown_path
from endpoint.emulator.apigateway.proxy_event import (
    HttpRequest,
    HttpResponse,
    Malformed,
    event,
    response,
)
from endpoint.emulator.apigateway.throttling import Throttling
from endpoint.emulator.lambda_.lambda_runtime import Result, TooManyRequests
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.process.http_server import QuietHandler, Server, serving

# The default; the quota can be raised for regional and private APIs only.
INTEGRATION_SECONDS = 29.0
LONGEST_BODY = 10 * 1024 * 1024
# Request line and headers together; an edge-optimised API also ends at CloudFront's URL limit.
LONGEST_HEAD = 10_240
LONGEST_EDGE_URL = 8_192
# Answered by the service itself at the root of the domain.
RESERVED = ("/ping", "/sping")


class Function(Protocol):
    """What the gateway calls: `LambdaFunction`, or a test's double."""

    def invoke(self, event: object) -> Result:
        """Run the function; raises TooManyRequests."""


class Refusal(Exception):
    """An error response of the gateway's own."""

    def __init__(self, status: int, message: str, error: str, kind: str | None = None) -> None:
        self.failure = Failure(status, message, error, kind)
        super().__init__(message)


def _internal(status: int) -> Refusal:
    # Which type these have is not documented; that they have the default one is assumed.
    return Refusal(status, "Internal server error", "InternalServerErrorException", "DEFAULT_5XX")


class ApiGateway:
    """One API with one stage.

    Args:
        document: the API.
        function: what its routes call.
        seconds: how long the gateway waits for the function; 29 on AWS.
        clock: counts what throttling allows.
    """

    def __init__(
        self,
        document: Document,
        function: Function,
        *,
        seconds: float = INTEGRATION_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self._document, self._function, self._seconds = document, function, seconds
        self._throttling = Throttling(document.throttling, clock or Clock())

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[Server]:
        """Listen on 127.0.0.1:`port` (0: any free one) while the context lasts.

        Raises:
            OSError: when the port is taken.
        """
        with serving(_Requests, port, gateway=self) as server:
            yield server

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the response to one request; an error becomes a response, too."""
        try:
            return self._answer(request)
        except Refusal as refusal:
            return render(
                refusal.failure,
                self._document.responses,
                domain=request.header("Host") or "",
                stage=self._document.stage,
            )

    def _answer(self, request: HttpRequest) -> HttpResponse:
        self._check_size(request)
        if request.path in RESERVED:
            return HttpResponse(200, [("Content-Type", "text/plain")], b"healthy")
        below_stage = self._below_stage(request.path)
        match = self._document.match(below_stage)
        route = None if match is None else self._document.route(match, request.method)
        # API Gateway has one answer for both; `chalice local` answers an unknown method with 405.
        if match is None or route is None:
            return unknown_path(
                self._document.responses,
                signed=request.header("Authorization") is not None,
                domain=request.header("Host") or "",
                stage=self._document.stage,
            )
        if not self._throttling.take(route.path, request.method):
            raise Refusal(429, "Too Many Requests", "TooManyRequestsException", "THROTTLED")
        if route.integration["type"] == "mock":
            return self._mock(route)
        return self._proxy(request, match, below_stage)

    def _check_size(self, request: HttpRequest) -> None:
        url = f"{request.path}?{request.query}" if request.query else request.path
        if not self._document.regional and len(url) > LONGEST_EDGE_URL:
            raise Refusal(414, "Request-URI Too Long", "RequestTooLargeException")
        head = len(request.method) + len(url) + 11
        head += sum(len(name) + len(value) + 4 for name, value in request.headers)
        if head > LONGEST_HEAD:
            raise Refusal(431, "Request Header Fields Too Large", "RequestTooLargeException")
        if len(request.body) > LONGEST_BODY:
            message = f"HTTP content length exceeded {LONGEST_BODY} bytes."
            raise Refusal(413, message, "RequestTooLargeException", "REQUEST_TOO_LARGE")

    def _below_stage(self, path: str) -> str:
        stage, _, rest = path.removeprefix("/").partition("/")
        if stage != self._document.stage:
            raise Refusal(403, "Forbidden", "ForbiddenException")
        return f"/{rest}"

    def _mock(self, route: Route) -> HttpResponse:
        # A mock integration cannot read a request that counts as binary (chalice issue 1310).
        converts = route.integration.get("contentHandling") == "CONVERT_TO_TEXT"
        if "*/*" in self._document.binary_types and not converts:
            raise _internal(500)
        details = route.integration["responses"]["default"]
        headers = [
            (name.removeprefix("method.response.header."), value.strip("'"))
            for name, value in details.get("responseParameters", {}).items()
        ]
        headers.append(("Content-Type", "application/json"))
        return HttpResponse(int(details["statusCode"]), headers, b"")

    def _proxy(self, request: HttpRequest, match: Match, below_stage: str) -> HttpResponse:
        result = self._call(
            event(
                request,
                stage=self._document.stage,
                resource=match.path,
                below_stage=below_stage,
                parameters=match.parameters,
                binary_types=self._document.binary_types,
            )
        )
        # The client does not see the function's error, which only its log contains.
        if result.error:
            raise _internal(502)
        try:
            return response(result.payload, request.header("Accept"), self._document.binary_types)
        except Malformed as error:
            raise _internal(502) from error

    def _call(self, content: object) -> Result:
        """Wait for the function as long as API Gateway does; a late function runs on."""
        outcome: Future[Result] = Future()
        Thread(target=self._into, args=(outcome, content), daemon=True).start()
        try:
            return outcome.result(self._seconds)
        except TimeoutError:
            message = "Endpoint request timed out"
            error = "InternalServerErrorException"
            raise Refusal(504, message, error, "INTEGRATION_TIMEOUT") from None
        except TooManyRequests as error:
            # "If the Lambda API rejects the invocation request, API Gateway returns a 500".
            raise _internal(500) from error

    def _into(self, outcome: Future[Result], content: object) -> None:
        try:
            outcome.set_result(self._function.invoke(content))
        except BaseException as error:  # noqa: BLE001 - handed over to the waiting thread
            outcome.set_exception(error)


class _Requests(QuietHandler):
    def refusal(self) -> str | None:
        # Which pages can use it, the gateway behind it decides.
        return foreign_host(self.headers.get_all("Host", []))

    def _handle(self) -> None:
        gateway: ApiGateway = self.server.gateway  # type: ignore[attr-defined]
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        request = HttpRequest(
            method=self.command,
            path=path,
            query=query,
            # Not a dictionary, because a header can be sent twice.
            headers=list(self.headers.items()),
            body=self.rfile.read(length),
            client=self.client_address[0],
        )
        result = gateway.answer(request)
        headers = [*result.headers, ("x-amzn-RequestId", str(uuid.uuid4()))]
        self.answer(result.status, headers, result.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _handle  # noqa: N815
