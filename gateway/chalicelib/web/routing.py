"""The border to Chalice: its requests become ours, our responses become its own.

Nothing else in chalicelib imports chalice. The two classes work around how API Gateway and Chalice
treat binary bodies: with `*/*` as the binary type every body leaves as base64 and is decoded by
API Gateway for every client, whatever its Accept header says. Chalice then insists on an Accept
header and on `bytes`.
https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-payload-encodings.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol
from urllib.parse import quote

from chalice import app as chalice

from chalicelib.errors import GatewayError, InternalError
from chalicelib.settings import BadSetting, route_prefix
from chalicelib.telemetry import LogRecord
from chalicelib.web.cors import cors_headers, preflight_headers
from chalicelib.web.request import Request, split_path
from chalicelib.web.response import Response
from chalicelib.web.security_headers import add_security_headers

Handler = Callable[..., Response]
# Handles what is no request: returns the result of the invocation.
EventHandler = Callable[[dict[str, Any]], Any]
RenderError = Callable[[GatewayError, Request], Response]
_UNUSABLE = "This gateway cannot work with one of its settings; its log says which, and why."


class Guard(Protocol):
    """Decides who can use the routes of a Blueprint that are not public."""

    def received(self, request: Request) -> Request:
        """Return the request as its client sent it; raises BadSetting."""

    def authenticate(self, request: Request) -> Request:
        """Return the request with its principal; raises Unauthorized."""

    def protect(self, request: Request, response: Response) -> Response:
        """Return the response as its principal should have it."""

    def origins(self) -> Sequence[str]:
        """Return the sites whose scripts can use this gateway; raises BadSetting."""


class Gateway(chalice.Chalice):
    """A Chalice app whose every response is bytes, whatever the client accepts.

    Args:
        app_name: as Chalice requires it.
        on_event: handles invocations that do not come from API Gateway.
    """

    def __init__(self, app_name: str, on_event: EventHandler) -> None:
        super().__init__(app_name)
        self._on_event = on_event
        self.api.binary_types = ["*/*"]
        self.register_middleware(_as_safe_bytes, "http")

    def __call__(self, event: Any, context: Any) -> Any:
        """Handle an event of API Gateway's; without an Accept header, anything is accepted.

        EventBridge and SageMaker's pipelines invoke the same function with events of their own. A
        client cannot send one: API Gateway adds `requestContext` to all that it passes on.
        """
        if "requestContext" not in event:
            return self._on_event(event)
        headers = event.get("headers") or {}
        if not any(name.lower() == "accept" for name in headers):
            event = {**event, "headers": {**headers, "Accept": "*/*"}}
        return super().__call__(event, context)


def _as_safe_bytes(event: Any, get_response: Callable[[Any], chalice.Response]) -> chalice.Response:
    """Encode the responses of Chalice itself, and add the headers that every response has.

    Chalice responds by itself where no route has the method or the media type.
    """
    response = get_response(event)
    if not isinstance(response.body, bytes | str):
        response.body = json.dumps(response.body)
        response.headers.setdefault("Content-Type", "application/json")
    # Chalice raises ValueError for text of a binary type outside every handler, which API Gateway
    # answers with 502.
    if isinstance(response.body, str):
        response.body = response.body.encode()
    add_security_headers(response.headers, _lower_case(event))
    return response


def _lower_case(request: chalice.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


class Routes(chalice.Blueprint):
    """The routes of one dialect. Their handlers take a Request and return a Response.

    Args:
        import_name: as Chalice requires it.
        guard: authenticates requests to all routes that are not public.
        render_error: makes a response of an error, in the dialect's own format.
        head: whether HEAD is routed with GET; API Gateway refuses a method that is not named.
    """

    def __init__(
        self, import_name: str, guard: Guard, render_error: RenderError, *, head: bool = False
    ) -> None:
        super().__init__(import_name)
        self._read_methods = ["GET", "HEAD"] if head else ["GET"]
        self._guard = guard
        self._render_error = render_error
        self._paths: set[str] = set()

    def get(self, *paths: str, public: bool = False) -> Callable[..., Handler]:
        """Register a handler for GET.

        Args:
            paths: route patterns.
            public: whether callers without a key can use the routes.
        """
        return self._register(paths, self._read_methods, public)

    def post(self, *paths: str, public: bool = False) -> Callable[..., Handler]:
        """Register a handler for POST."""
        return self._register(paths, ["POST"], public)

    def delete(self, *paths: str, public: bool = False) -> Callable[..., Handler]:
        """Register a handler for DELETE."""
        return self._register(paths, ["DELETE"], public)

    def _register(
        self, paths: Sequence[str], methods: list[str], public: bool
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            for path in paths:
                # Some clients send a Content-Type with GET, which is no reason for a 415.
                route = self.route(path, methods=methods, content_types=["*/*"])
                route(self._view(handler, public))
                self._register_preflight(path)
            return handler

        return register

    def _register_preflight(self, path: str) -> None:
        """Register OPTIONS, with which a browser asks what another site's script can send."""
        # GET and POST of one path share its preflight; Chalice refuses to register it twice.
        if path in self._paths:
            return
        self._paths.add(path)
        # Chalice's own CORS allows one origin or all, not a list. Before Chalice 1.34 its mock
        # integration also failed with `*/*` as the binary type:
        # https://github.com/aws/chalice/issues/1310
        route = self.route(path, methods=["OPTIONS"], content_types=["*/*"])

        def preflight(request: Request, **_: str) -> Response:
            return Response(204, b"", preflight_headers(self._guard.origins(), request))

        route(self._view(preflight, public=True))

    def _view(self, handler: Handler, public: bool) -> Callable[..., chalice.Response]:
        """Return the view function that Chalice calls with a route's path parameters."""

        @wraps(handler)
        def view(**arguments: str) -> chalice.Response:
            try:
                return respond(**arguments)
            except Exception:  # noqa: BLE001 (Chalice would print what the client sent into the log)
                return self._last_resort()

        def respond(**arguments: str) -> chalice.Response:
            request = _request(self.current_request)
            response = self._respond(handler, request, arguments, public)
            headers: dict[str, Any] = {
                **self._cors_headers(request),
                **response.headers,
            }
            if response.cookies:
                # Chalice sends a list as multiValueHeaders, so that each cookie has its own header.
                headers["Set-Cookie"] = list(response.cookies)
            # A browser with a cookie needs no link in its next URL; others have nothing else.
            elif request.link is not None and response.status == 303:
                headers["Location"] = _with_link(headers["Location"], request.link)
            # `chalice local` would send the body in response to HEAD.
            body = b"" if request.method == "HEAD" else response.body
            return chalice.Response(body, headers, response.status)

        return view

    def _last_resort(self) -> chalice.Response:
        """Return the response to a request that cannot be read, or whose response cannot be made.

        Nothing that the client sent is in it or in the log.
        """
        context = self.current_request.lambda_context
        request_id = context.aws_request_id if context else ""
        method, route = self.current_request.method, self.current_request.path
        request = Request(method, route, route, {}, {}, request_id)
        record = LogRecord(request_id, method, route)
        record.write_crash()
        error = InternalError("An unexpected error occurred.")
        response = self._render_error(error, request)
        record.write(response.status, error.code)
        body = b"" if method == "HEAD" else response.body
        return chalice.Response(body, dict(response.headers), response.status)

    def _cors_headers(self, request: Request) -> dict[str, str]:
        try:
            return cors_headers(self._guard.origins(), request)
        except BadSetting:  # which the response reports already
            return {}

    def _respond(
        self, handler: Handler, request: Request, arguments: dict[str, str], public: bool
    ) -> Response:
        """Run a handler; whatever it raises becomes a response, and every request is logged."""
        code = None
        try:
            # Before anything else, so that every route reports an unusable setting alike.
            request = self._guard.received(request)
            if not public:
                request = self._guard.authenticate(request)
            response = handler(request, **arguments)
        except GatewayError as error:
            response, code = self._render_error(error, request), error.code
            response = response.with_headers(error.headers)
        except BadSetting as error:
            request.log.write_bad_setting(error.variable, error.problem)
            unusable = InternalError(_UNUSABLE)
            response, code = self._render_error(unusable, request), unusable.code
        except Exception:  # noqa: BLE001 (the last resort: logged with its traceback, reported briefly)
            request.log.write_crash()
            unexpected = InternalError("An unexpected error occurred.")
            response, code = self._render_error(unexpected, request), unexpected.code
        request.log.write(response.status, code)
        return self._guard.protect(request, response)


def _with_link(location: str, link: str) -> str:
    """Keep the caller's link on a redirect to another URL of this gateway."""
    if not location.startswith("/"):
        return location
    return (
        f"{location}{'&' if '?' in location else '?'}link={quote(link, safe='', errors='replace')}"
    )


def _request(request: chalice.Request) -> Request:
    query = request.query_params
    context = request.lambda_context
    parameters = {name: query.getlist(name) for name in query} if query else {}
    links = parameters.pop("link", None)
    request_id = context.aws_request_id if context else ""
    root, path = _paths(request)
    return Request(
        method=request.method,
        route=request.path,
        path=path,
        headers=_lower_case(request),
        query=parameters,
        request_id=request_id,
        body=_body(request),
        # Two links count as an invalid one: it is unclear which of them is meant.
        link=None if links is None else "".join(links) if len(links) == 1 else "",
        # Not X-Forwarded-For, which a client can set.
        address=(request.context.get("identity") or {}).get("sourceIp") or "",
        root=root,
        log=LogRecord(request_id, request.method, request.path),
    )


def _paths(request: chalice.Request) -> tuple[str, str]:
    """Return the public path of the home page, and the path below it."""
    # Chalice's `path` is the route's pattern; only the context has the path that was sent.
    public = request.context.get("path") or request.path
    root, path = split_path(public, request.path, request.uri_params or {})
    prefix = route_prefix()
    # `chalice local` also routes `//host/api/` and `http://host/api/`, so there the path is not
    # asked for its beginning.
    return (root, path) if prefix is None else (prefix, path.removeprefix(prefix))


def _body(request: chalice.Request) -> bytes:
    if request.method != "POST":
        return b""
    body = request.raw_body
    return body if isinstance(body, bytes) else body.encode()
