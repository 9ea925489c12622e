"""API Gateway's Lambda proxy event, payload format 1.0, and the response made of its result."""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from endpoint.emulator.account import ACCOUNT

# Renamed on their way to the client ("Amazon API Gateway important notes", REST APIs).
_REMAPPED = {
    "authorization",
    "connection",
    "content-length",
    "content-md5",
    "date",
    "expect",
    "host",
    "max-forwards",
    "proxy-authenticate",
    "server",
    "te",
    "trailer",
    "upgrade",
    "user-agent",
    "www-authenticate",
}


@dataclass(frozen=True)
class HttpRequest:
    """A request as it came over the wire."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    client: str

    def header(self, name: str) -> str | None:
        """Return a header's last value."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return values[-1] if values else None


@dataclass(frozen=True)
class HttpResponse:
    """A response as it goes over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Malformed(ValueError):
    """The function returned something that is not a proxy response."""


def matches_binary(media_type: str | None, binary_types: Iterable[str]) -> bool:
    """Return whether a type counts as binary.

    Source: "Binary media types for REST APIs" in API Gateway's developer guide. `*/*` in the
    list takes everything in; `*/*` in a request matches only that.
    """
    types = set(binary_types)
    return "*/*" in types or _bare(media_type) in types


def _bare(media_type: str | None) -> str:
    return (media_type or "").split(";")[0].strip().lower()


def event(
    request: HttpRequest,
    *,
    stage: str,
    resource: str,
    below_stage: str,
    parameters: Mapping[str, str],
    binary_types: Iterable[str],
) -> dict[str, Any]:
    """Return the event for a request that was routed to `resource`.

    Path parameters stay as they were sent, percent-encoding and all; query parameters are decoded.
    """
    # A plus in the query is a space (aws-cdk issue 19827).
    query = parse_qsl(request.query, keep_blank_values=True)
    binary = bool(request.body) and matches_binary(request.header("Content-Type"), binary_types)
    headers = [*request.headers, *_added(request)]
    return {
        "resource": resource,
        # Without the stage, which only requestContext.path includes.
        "path": below_stage,
        "httpMethod": request.method,
        # Of a repeated header, `headers` has the last value and `multiValueHeaders` all.
        "headers": dict(headers) or None,
        "multiValueHeaders": _multi(headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _multi(query),
        # Not decoded (chalice issue 511).
        "pathParameters": dict(parameters) or None,
        # Chalice deploys without stage variables.
        "stageVariables": None,
        "requestContext": _context(request, stage, resource),
        "body": _body(request.body, binary),
        "isBase64Encoded": binary,
    }


def _added(request: HttpRequest) -> list[tuple[str, str]]:
    return [
        ("X-Amzn-Trace-Id", f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"),
        ("X-Forwarded-For", request.client),
        # API Gateway serves HTTPS only.
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Proto", "https"),
    ]


def _multi(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]] | None:
    result: dict[str, list[str]] = {}
    for name, value in pairs:
        result.setdefault(name, []).append(value)
    return result or None


def _body(body: bytes, binary: bool) -> str | None:
    if not body:
        return None
    return base64.b64encode(body).decode("ascii") if binary else body.decode("utf-8", "replace")


def _context(request: HttpRequest, stage: str, resource: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    host = request.header("Host") or ""
    return {
        "accountId": ACCOUNT,
        "apiId": "emulator00",
        "domainName": host,
        "domainPrefix": host.split(".")[0],
        "extendedRequestId": uuid.uuid4().hex[:15] + "=",
        "httpMethod": request.method,
        "identity": {
            "accessKey": None,
            "accountId": None,
            "caller": None,
            "sourceIp": request.client,
            "user": None,
            "userAgent": request.header("User-Agent"),
            "userArn": None,
        },
        "path": request.path,
        "protocol": "HTTP/1.1",
        "requestId": str(uuid.uuid4()),
        "requestTime": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "requestTimeEpoch": int(now.timestamp() * 1000),
        "resourceId": "emu1ab",
        "resourcePath": resource,
        "stage": stage,
    }


def response(result: Any, accept: str | None, binary_types: Iterable[str]) -> HttpResponse:
    """Return what the client gets for a function's result.

    A base64 body is decoded only if the *first* media type of Accept is binary; otherwise the
    client gets the base64 text, and its picture is broken.

    Raises:
        Malformed: if the result is not a proxy response.
    """
    members = {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded", "cookies"}
    if not isinstance(result, dict) or not set(result) <= members:
        raise Malformed("Malformed Lambda proxy response")
    headers = _headers(result)
    try:
        status = int(result.get("statusCode", 200))
    except (TypeError, ValueError) as error:
        raise Malformed("statusCode is not a number") from error
    first = (accept or "").split(",")[0]
    body = _response_body(result, matches_binary(first, binary_types))
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    return HttpResponse(status, headers, body)


def _response_body(result: Mapping[str, Any], decode: bool) -> bytes:
    body = result.get("body")
    if body is not None and not isinstance(body, str):
        raise Malformed("the body is not a string")
    if not (result.get("isBase64Encoded") and decode):
        return (body or "").encode("utf-8")
    try:
        return base64.b64decode(body or "", validate=True)
    except binascii.Error as error:
        raise Malformed("the body is not base64") from error


def _headers(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    multi = result.get("multiValueHeaders") or {}
    single = result.get("headers") or {}
    if not isinstance(multi, dict) or not isinstance(single, dict):
        raise Malformed("the headers are not an object")
    pairs = [(name, value) for name, values in multi.items() for value in values]
    # "If you specify values for both headers and multiValueHeaders, API Gateway merges them", and
    # the multi-value list wins for the same name.
    pairs += [(name, value) for name, value in single.items() if name not in multi]
    for name, value in pairs:
        # A line break would end the header; API Gateway answers 502.
        if isinstance(value, dict | list) or value is None or "\n" in f"{name}{value}":
            raise Malformed(f"the header {name} is not text")
    return [(_remapped(name), _text(value)) for name, value in pairs]


def _remapped(name: str) -> str:
    return f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED else name


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
