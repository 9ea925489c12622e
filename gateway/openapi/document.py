"""The OpenAPI 3.1 document: what each route accepts, and every response that it has.

It is made of the contract, the tree of errors and the table of operations; a test compares that
table with the routes of the app. https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chalicelib import __version__
from chalicelib.auth.authenticate import SESSION_COOKIE
from chalicelib.errors import GatewayError, InvalidRequest, every_error
from openapi.operations import HTML, JSON, OPERATIONS, PLAIN, Operation
from openapi.schemas import TEXT, Schema, ref, schemas

# The responses of authentication, where the gateway has keys.
_ACCESS = (401, 429)
# API Gateway sends these by itself: too large, throttled, a Lambda that crashed or took too long.
_API_GATEWAYS_OWN = (413, 429, 502, 504)
_INTRODUCTION = (
    "Text to image. A request for a slow model's picture returns a chain of `303 See Other`"
    " redirects, each of which waits as long as a request can. With `dry_run=1` in the query or"
    " `dry_run: true` in the body, every request that generates pictures returns its price instead,"
    " a `DryRun`. API Gateway itself responds to an"
    ' unknown path with 403 and `{"message": ...}`.'
)
_MEANINGS = {
    200: "Success.",
    201: "Created.",
    202: "Not ready yet.",
    204: "Success, without a body.",
    303: "The picture is at another URL, or not ready yet: fetch the URL with GET.",
    304: "The client has this version already, by the `ETag` that it sent.",
}
_HEADERS = {
    202: {"Retry-After": "Seconds.", "Location": "The job."},
    303: {"Location": "The next URL."},
}
_SCHEMES: dict[str, Schema] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The key is the password."},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
    "link": {"type": "apiKey", "in": "query", "name": "link"},
}


def document() -> Schema:
    """Return the document; its server is filled in when it is requested."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Easel",
            "version": __version__,
            "summary": "Your own text-to-image URL.",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # A document is valid only with a server; the gateway replaces it by its own address.
        "servers": [{"url": "/"}],
        "tags": [{"name": group} for group in _groups()],
        "paths": {path: _methods(methods) for path, methods in OPERATIONS.items()},
        # None of them is required by a gateway without keys.
        "security": [{}, *({name: []} for name in _SCHEMES)],
        "components": {
            "schemas": schemas(),
            "securitySchemes": _SCHEMES,
        },
    }


# --- From the table to the document ---------------------------------------------------------------


def _groups() -> list[str]:
    return list(dict.fromkeys(operation.group for operation in _all()))


def _all() -> list[Operation]:
    return [operation for methods in OPERATIONS.values() for operation in methods.values()]


def _methods(methods: Mapping[str, Operation]) -> Schema:
    described = {
        method: _operation(operation.name, operation) for method, operation in methods.items()
    }
    if "get" in methods and methods["get"].head:
        name = methods["get"].name.replace("get_", "head_", 1)
        described["head"] = _without_bodies(_operation(name, methods["get"]))
    return described


def _operation(name: str, operation: Operation) -> Schema:
    described: Schema = {
        "operationId": name,
        "summary": operation.summary,
        "tags": [operation.group],
        "responses": {
            str(status): response
            for status, response in sorted({**_good(operation), **_bad(operation)}.items())
        },
    }
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body:
        content = {JSON: {"schema": ref(operation.body)}}
        if operation.form:
            content["multipart/form-data"] = {"schema": operation.form}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described


def _without_bodies(operation: Schema) -> Schema:
    bare = {
        status: {name: part for name, part in response.items() if name != "content"}
        for status, response in operation["responses"].items()
    }
    return {**operation, "responses": bare}


def _good(operation: Operation) -> dict[int, Schema]:
    responses: dict[int, Schema] = {}
    for status, contents in operation.responses.items():
        content = {
            media_type: {"schema": schema} if schema is not None else {}
            for media_type, schema in contents.items()
        }
        response: Schema = {"description": _MEANINGS[status], "content": content}
        headers = {**_HEADERS.get(status, {}), **(operation.headers if status == 200 else {})}
        if headers:
            response["headers"] = _described(headers)
        responses[status] = response
    return responses


def _bad(operation: Operation) -> dict[int, Schema]:
    by_status: dict[int, list[type[GatewayError]]] = {status: [] for status in _API_GATEWAYS_OWN}
    access = [error for error in every_error() if error.status in _ACCESS]
    # Any route can require a key, depending on the settings of the gateway.
    for error in dict.fromkeys([*operation.errors, *access]):
        by_status.setdefault(_status(error, operation.problem), []).append(error)
    return {status: _failure(status, errors, operation) for status, errors in by_status.items()}


def _status(error: type[GatewayError], problem: str) -> int:
    """Return the status of an error; FastAPI has one of its own for bad fields."""
    return 422 if problem == "WebUIProblem" and error is InvalidRequest else error.status


def _failure(status: int, errors: Sequence[type[GatewayError]], operation: Operation) -> Schema:
    bad_field = status == 422 and operation.problem == "WebUIProblem"
    shapes = [ref("WebUIBadField" if bad_field else operation.problem)] if errors else []
    if status in _API_GATEWAYS_OWN:
        shapes.append(ref("ApiGatewayProblem"))
    content: Schema = {JSON: {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}}
    if operation.problem == "Problem":
        content[HTML] = {"schema": TEXT}
    if status == 503 and operation.responses.keys() & {303}:
        content[PLAIN] = {"schema": TEXT}  # the response to a prefetch
    meanings = [f"`{error.code}`: {_first_line(error)}" for error in errors]
    described: Schema = {
        "description": "\n".join(meanings) or "Sent by API Gateway itself.",
        "content": content,
    }
    if any(error.retry_after is not None for error in errors):
        described["headers"] = _described({"Retry-After": "Seconds."})
    return described


def _first_line(error: type[GatewayError]) -> str:
    return " ".join((error.__doc__ or "").partition("\n\n")[0].split())


def _described(headers: Mapping[str, str]) -> Schema:
    return {name: {"description": meaning, "schema": TEXT} for name, meaning in headers.items()}
