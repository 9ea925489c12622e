"""Where Chalice and Easel meet: requests become visits, answers become responses.

Nothing else in chalicelib imports chalice. The two classes work round what API Gateway and Chalice
make of binary bodies: with `*/*` as the binary type every body leaves as base64 and is decoded by
API Gateway for every client, whatever its Accept header says. Chalice then insists on an Accept
header and on `bytes`.
https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-payload-encodings.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from chalice.app import Blueprint, Chalice, Request, Response

from chalicelib import openai_images, sdapi
from chalicelib.answers import Answer, problem_answer
from chalicelib.errors import GatewayError, InternalError
from chalicelib.telemetry import record, record_crash
from chalicelib.visits import Visit

Handler = Callable[..., Answer]
Teller = Callable[[GatewayError, str], Answer]


class Gateway(Chalice):
    """A Chalice app whose every answer is bytes, whatever the client accepts."""

    def __init__(self, app_name: str) -> None:
        super().__init__(app_name)
        self.api.binary_types = ["*/*"]
        self.register_middleware(_leave_as_bytes, "http")

    def __call__(self, event: Any, context: Any) -> Any:
        """Answer an event of API Gateway's, in which a missing Accept header accepts anything."""
        headers = event.get("headers") or {}
        if not any(name.lower() == "accept" for name in headers):
            event = {**event, "headers": {**headers, "Accept": "*/*"}}
        return super().__call__(event, context)


def _leave_as_bytes(event: Any, get_response: Callable[[Any], Response]) -> Response:
    """Encode what Chalice itself answers with: no such method, no such media type."""
    response = get_response(event)
    if isinstance(response.body, bytes):
        return response
    if not isinstance(response.body, str):
        response.body = json.dumps(response.body)
        response.headers.setdefault("Content-Type", "application/json")
    response.body = response.body.encode()
    return response


class Routes(Blueprint):
    """Routes whose handlers take a visit and return an answer."""

    def get_openai(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for GET whose errors are told as OpenAI tells them."""
        return self._register(path, ["GET"], openai_images.problem)

    def post_openai(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for POST whose errors are told as OpenAI tells them."""
        return self._register(path, ["POST"], openai_images.problem)

    def get_sdapi(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for GET whose errors are told as AUTOMATIC1111's web UI does."""
        return self._register(path, ["GET"], sdapi.problem)

    def post_sdapi(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for POST whose errors are told as AUTOMATIC1111's web UI does."""
        return self._register(path, ["POST"], sdapi.problem)

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for GET and for HEAD, which API Gateway refuses unless it is named."""
        return self._register(path, ["GET", "HEAD"])

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for POST."""
        return self._register(path, ["POST"])

    def _register(
        self, path: str, methods: list[str], tell: Teller | None = None
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            # A GET with a Content-Type, as some clients send, is no reason for a 415.
            route = self.route(path, methods=methods, content_types=["*/*"])
            route(self._answering(handler, tell))
            return handler

        return register

    def _answering(self, handler: Handler, tell: Teller | None) -> Callable[..., Response]:
        @wraps(handler)
        def view(**arguments: str) -> Response:
            visit = _visit(self.current_request)
            answer = _answer(handler, visit, arguments, tell).with_safety()
            body = b"" if visit.method == "HEAD" else answer.body
            return Response(body, dict(answer.headers), answer.status)

        return view


def _told(error: GatewayError, visit: Visit, tell: Teller | None) -> Answer:
    return tell(error, visit.request_id) if tell else problem_answer(error, visit)


def _visit(request: Request) -> Visit:
    query = request.query_params
    context = request.lambda_context
    return Visit(
        method=request.method,
        route=request.path,
        path=request.context.get("path") or request.path,
        headers={name.lower(): value for name, value in request.headers.items()},
        query={name: query.getlist(name) for name in query} if query else {},
        request_id=context.aws_request_id if context else "",
        body=_body(request),
    )


def _body(request: Request) -> bytes:
    if request.method != "POST":
        return b""
    body = request.raw_body
    return body if isinstance(body, bytes) else body.encode()


def _answer(
    handler: Handler, visit: Visit, arguments: dict[str, str], tell: Teller | None
) -> Answer:
    """Run a handler; whatever it raises becomes an answer, and every visit is logged."""
    code = None
    try:
        answer = handler(visit, **arguments)
    except GatewayError as error:
        answer, code = _told(error, visit, tell), error.code
    except Exception:  # noqa: BLE001 (the last line of defence: logged whole, told in one word)
        record_crash(visit)
        unforeseen = InternalError("Something went wrong here that nobody foresaw.")
        answer, code = _told(unforeseen, visit, tell), unforeseen.code
    record(visit, answer.status, code)
    return answer
