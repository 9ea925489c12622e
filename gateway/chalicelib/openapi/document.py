"""The OpenAPI 3.1 document: what each route takes, and everything that it may answer.

It is made of the contract, the tree of errors and the table of routes; tests hold that table
to the routes that there are. https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chalicelib import __version__
from chalicelib.auth.authenticate import SESSION_COOKIE
from chalicelib.errors import GatewayError, InvalidRequest
from chalicelib.openapi.operations import HTML, JSON, OPERATIONS, PLAIN, Operation
from chalicelib.openapi.schemas import TEXT, Schema, ref, schemas

# Stand for a key, where the gateway asks for one.
_ACCESS = (401, 429)
# API Gateway answers these by itself: too large, throttled, a Lambda that broke or took too long.
_API_GATEWAYS_OWN = (413, 429, 502, 504)
_INTRODUCTION = (
    "Text to image. A slow model's picture is answered with a chain of `303 See Other`, each of"
    " which waits as long as a visit may. API Gateway itself answers an address that there is not"
    ' with 403 and `{"message": ...}`.'
)
_MEANINGS = {
    200: "As asked for.",
    201: "Made.",
    202: "Not ready yet.",
    204: "Done.",
    303: "Ready elsewhere, or not yet: to be fetched with GET.",
    304: "What the client has already, by the `ETag` that it named.",
}
_HEADERS = {
    202: {"Retry-After": "Seconds.", "Location": "The job."},
    303: {"Location": "Where to go on."},
}
_SCHEMES: dict[str, Schema] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The key is the password."},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
    "link": {"type": "apiKey", "in": "query", "name": "link"},
}


def document(address: str) -> Schema:
    """Return the document of the gateway at an address, without a slash at its end."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Easel",
            "version": __version__,
            "summary": "Your own text-to-image URL.",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": address or "/"}],
        "tags": [{"name": group} for group in _groups()],
        "paths": {path: _methods(path, each) for path, each in OPERATIONS.items()},
        # None of it where the gateway is open to everyone.
        "security": [{}, *({name: []} for name in _SCHEMES)],
        "components": {
            "schemas": schemas(),
            "securitySchemes": _SCHEMES,
        },
    }


# --- From the table to the document ---------------------------------------------------------------


def _groups() -> list[str]:
    return list(dict.fromkeys(each.group for each in _all()))


def _all() -> list[Operation]:
    return [each for methods in OPERATIONS.values() for each in methods.values()]


def _methods(path: str, methods: Mapping[str, Operation]) -> Schema:
    described = {method: _operation(path, method, each) for method, each in methods.items()}
    if "get" in methods and methods["get"].head:
        described["head"] = _without_bodies(_operation(path, "head", methods["get"]))
    return described


def _operation(path: str, method: str, operation: Operation) -> Schema:
    name = "-".join(part.strip("{}") for part in path.split("/") if part) or "home"
    described: Schema = {
        "operationId": f"{method}-{name.replace('.', '-')}",
        "summary": operation.summary,
        "tags": [operation.group],
        "responses": {
            str(status): each
            for status, each in sorted({**_good(operation), **_bad(operation)}.items())
        },
    }
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body:
        content = {JSON: {"schema": ref(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _without_bodies(operation: Schema) -> Schema:
    bare = {
        status: {name: part for name, part in each.items() if name != "content"}
        for status, each in operation["responses"].items()
    }
    return {**operation, "responses": bare}


def _good(operation: Operation) -> dict[int, Schema]:
    found: dict[int, Schema] = {}
    for status, contents in operation.answers.items():
        content = {kind: {"schema": each} if each else {} for kind, each in contents.items()}
        found[status] = {"description": _MEANINGS[status], "content": content}
        headers = {**_HEADERS.get(status, {}), **(operation.headers if status == 200 else {})}
        if headers:
            found[status]["headers"] = _described(headers)
    return found


def _bad(operation: Operation) -> dict[int, Schema]:
    by_status: dict[int, list[type[GatewayError]]] = {status: [] for status in _API_GATEWAYS_OWN}
    access = [each for each in GatewayError.__subclasses__() if each.status in _ACCESS]
    for error in dict.fromkeys([*operation.errors, *access]):
        by_status.setdefault(_status(error, operation.problem), []).append(error)
    return {status: _failure(status, each, operation) for status, each in by_status.items()}


def _status(error: type[GatewayError], problem: str) -> int:
    """Return with which status an error is told; FastAPI has one of its own for bad fields."""
    return 422 if problem == "WebUIProblem" and error is InvalidRequest else error.status


def _failure(status: int, errors: Sequence[type[GatewayError]], operation: Operation) -> Schema:
    shapes = [ref("WebUIBadField" if status == 422 else operation.problem)] if errors else []
    if status in _API_GATEWAYS_OWN:
        shapes.append(ref("ApiGatewayProblem"))
    content: Schema = {JSON: {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}}
    if operation.problem == "Problem":
        content[HTML] = {}
    if status == 503 and operation.answers.keys() & {303}:
        content[PLAIN] = {}  # a browser that fetches ahead
    meanings = [f"`{each.code}`: {_first_line(each)}" for each in errors]
    described: Schema = {
        "description": "\n".join(meanings) or "API Gateway's own.",
        "content": content,
    }
    if any(each.retry_after is not None for each in errors):
        described["headers"] = _described({"Retry-After": "Seconds."})
    return described


def _first_line(error: type[GatewayError]) -> str:
    return " ".join((error.__doc__ or "").partition("\n\n")[0].split())


def _described(headers: Mapping[str, str]) -> Schema:
    return {name: {"description": each, "schema": TEXT} for name, each in headers.items()}
