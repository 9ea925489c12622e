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
from dataclasses import replace
from functools import wraps
from typing import Any
from urllib.parse import quote

from chalice.app import Blueprint, Chalice, Request, Response

from chalicelib.auth.authenticate import OPEN_ROUTES, admit
from chalicelib.auth.sessions import remember_link
from chalicelib.dialects import automatic1111, openai
from chalicelib.errors import GatewayError, InternalError
from chalicelib.settings import BadSetting, Settings
from chalicelib.web.cors import cors_headers, preflight_headers
from chalicelib.web.principal import Kind
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, problem_answer
from chalicelib.web.security_headers import make_safe
from chalicelib.web.telemetry import record, record_crash

Handler = Callable[..., Answer]
Teller = Callable[[GatewayError, str], Answer]


class Gateway(Chalice):
    """A Chalice app whose every answer is bytes, whatever the client accepts."""

    def __init__(self, app_name: str) -> None:
        super().__init__(app_name)
        self.api.binary_types = ["*/*"]
        self.register_middleware(_leave_as_safe_bytes, "http")

    def __call__(self, event: Any, context: Any) -> Any:
        """Answer an event of API Gateway's, in which a missing Accept header accepts anything."""
        headers = event.get("headers") or {}
        if not any(name.lower() == "accept" for name in headers):
            event = {**event, "headers": {**headers, "Accept": "*/*"}}
        return super().__call__(event, context)


def _leave_as_safe_bytes(event: Any, get_response: Callable[[Any], Response]) -> Response:
    """Encode what Chalice itself answers with, and give every answer the headers that all have.

    Chalice answers by itself where there is no such method, and no such media type.
    """
    response = get_response(event)
    if not isinstance(response.body, bytes | str):
        response.body = json.dumps(response.body)
        response.headers.setdefault("Content-Type", "application/json")
    if isinstance(response.body, str):
        response.body = response.body.encode()
    make_safe(response.headers, _lower_case(event))
    return response


def _lower_case(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


class Routes(Blueprint):
    """Routes whose handlers take a visit and return an answer.

    Every route asks for a key where keys are configured, but for those in OPEN_ROUTES.

    Args:
        import_name: as Chalice wants it.
        settings: returns the gateway's settings.
    """

    def __init__(self, import_name: str, settings: Callable[[], Settings]) -> None:
        super().__init__(import_name)
        self._settings = settings
        self._paths: set[str] = set()

    def get_openai(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for GET whose errors are told as OpenAI tells them."""
        return self._register(path, ["GET"], openai.problem)

    def post_openai(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for POST whose errors are told as OpenAI tells them."""
        return self._register(path, ["POST"], openai.problem)

    def get_sdapi(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for GET whose errors are told as AUTOMATIC1111's web UI does."""
        return self._register(path, ["GET"], automatic1111.problem)

    def post_sdapi(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for POST whose errors are told as AUTOMATIC1111's web UI does."""
        return self._register(path, ["POST"], automatic1111.problem)

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for GET and for HEAD, which API Gateway refuses unless it is named."""
        return self._register(path, ["GET", "HEAD"])

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for POST."""
        return self._register(path, ["POST"])

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler for DELETE."""
        return self._register(path, ["DELETE"])

    def _register(
        self, path: str, methods: list[str], tell: Teller | None = None
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            # A GET with a Content-Type, as some clients send, is no reason for a 415.
            route = self.route(path, methods=methods, content_types=["*/*"])
            route(self._answering(self._guarding(path, handler), tell))
            self._answer_preflights(path)
            return handler

        return register

    def _answer_preflights(self, path: str) -> None:
        """Answer a browser that asks whether another site's script may send what it wants to."""
        if path in self._paths:
            return
        self._paths.add(path)
        route = self.route(path, methods=["OPTIONS"], content_types=["*/*"])

        def preflight(visit: Visit, **_: str) -> Answer:
            return Answer(204, b"", preflight_headers(self._settings().protection.origins, visit))

        route(self._answering(preflight, None))

    def _guarding(self, path: str, handler: Handler) -> Handler:
        if path in OPEN_ROUTES:
            return handler

        @wraps(handler)
        def guarded(visit: Visit, **arguments: str) -> Answer:
            guest = admit(self._settings().protection, visit)
            remember_link(visit, guest)
            if guest.kind is Kind.KEY and guest.key is not None:
                visit.notes["key"] = guest.key.name
            if guest.link is not None:
                visit.notes["link"] = guest.link.id
            return _kept_private(handler(replace(visit, guest=guest), **arguments), guest.kind)

        return guarded

    def _answering(self, handler: Handler, tell: Teller | None) -> Callable[..., Response]:
        @wraps(handler)
        def view(**arguments: str) -> Response:
            visit = _visit(self.current_request)
            answer = _answer(handler, visit, arguments, tell)
            body = b"" if visit.method == "HEAD" else answer.body
            headers: dict[str, Any] = {**self._readable(visit), **answer.headers, **visit.remarks}
            if visit.new_cookies:
                headers["Set-Cookie"] = visit.new_cookies
            elif visit.link is not None and answer.status == 303:
                headers["Location"] = _with_link(headers["Location"], visit.link)
            return Response(body, headers, answer.status)

        return view

    def _readable(self, visit: Visit) -> dict[str, str]:
        try:
            return cors_headers(self._settings().protection.origins, visit)
        except BadSetting:  # the answer says so already
            return {}


def _kept_private(answer: Answer, kind: Kind) -> Answer:
    """Keep a guest's pictures from caches that others read, too."""
    kept = answer.headers.get("Cache-Control")
    if kind is Kind.OPEN or kept is None:
        return answer
    return replace(
        answer, headers={**answer.headers, "Cache-Control": kept.replace("public", "private")}
    )


def _with_link(location: str, link: str) -> str:
    """Take a visitor's link along on the way to another address of this gateway's."""
    if not location.startswith("/"):
        return location
    return f"{location}{'&' if '?' in location else '?'}link={quote(link, safe='')}"


def _told(error: GatewayError, visit: Visit, tell: Teller | None) -> Answer:
    return tell(error, visit.request_id) if tell else problem_answer(error, visit)


def _visit(request: Request) -> Visit:
    query = request.query_params
    context = request.lambda_context
    parameters = {name: query.getlist(name) for name in query} if query else {}
    links = parameters.pop("link", None)
    return Visit(
        method=request.method,
        route=request.path,
        path=request.context.get("path") or request.path,
        headers=_lower_case(request),
        query=parameters,
        request_id=context.aws_request_id if context else "",
        body=_body(request),
        # Two links are no link: which of them was meant?
        link=None if links is None else "".join(links) if len(links) == 1 else "",
        address=(request.context.get("identity") or {}).get("sourceIp") or "",
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
