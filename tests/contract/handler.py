"""Runs in a process of its own: the gateway's Lambda handler, and requests to it, one by one.

Arguments: the folder with app.py, and the file that the responses are written to. The requests
come as JSON on standard input. Nothing is imported but the standard library and `app`, so this
runs inside a package, too (`python -I -S`).

The clock stands still, apart from the seconds that a request says it comes `later`, and what is
drawn by lot is always the same: so tokens, ids and seeds can be compared letter by letter.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import re
import secrets
import sys
import time
from pathlib import Path
from urllib.parse import parse_qsl

NOW = 1_800_000_000.0
REQUEST_ID = "00000000-0000-0000-0000-000000000001"
_moment = [NOW]


class Context:
    """As much of Lambda's context as a function may look at."""

    aws_request_id = REQUEST_ID
    function_name = "easel-dev"
    function_version = "$LATEST"
    memory_limit_in_mb = "1024"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:easel-dev"
    log_group_name = "/aws/lambda/easel-dev"
    log_stream_name = "stream"

    def get_remaining_time_in_millis(self) -> int:
        return 29_000


def resource_of(routes, path):
    """Return the route that API Gateway would choose, and its parameters as they were sent."""
    found = None
    for route in routes:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(route))
        match = re.fullmatch(pattern, path)
        # A literal part goes before a parameter.
        if match and (found is None or len(match.groupdict()) < len(found[1])):
            found = route, match.groupdict()
    return found or (path, {})


def event_of(routes, request):
    path, _, query = request["path"].partition("?")
    resource, parameters = resource_of(routes, path)
    headers = {"Host": "easel.example", "X-Forwarded-Proto": "https", **request["headers"]}
    pairs = parse_qsl(query, keep_blank_values=True)
    many = {}
    for name, value in pairs:
        many.setdefault(name, []).append(value)
    body = request.get("body")
    return {
        "resource": resource,
        "path": path,
        "httpMethod": request["method"],
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": many or None,
        "pathParameters": parameters or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": resource,
            "httpMethod": request["method"],
            "path": f"/api{path}",
            "stage": "api",
            "requestId": REQUEST_ID,
            "identity": {"sourceIp": request.get("address", "192.0.2.1")},
        },
        "body": None if body is None else base64.b64encode(body.encode()).decode(),
        "isBase64Encoded": body is not None,
    }


def filled(text, known):
    """Return text with what an earlier answer gave: `<name>`, `<cookie of name>` and so on."""
    return re.sub(r"<[^<>]+>", lambda it: known[it[0]], text)


def remember(known, name, answer):
    """Keep of an answer what a client would send next."""
    headers = {each.lower(): value for each, value in answer["headers"].items()}
    headers |= {
        each.lower(): "; ".join(value.partition(";")[0] for value in values)
        for each, values in (answer.get("multiValueHeaders") or {}).items()
    }
    known[f"<cookie of {name}>"] = headers.get("set-cookie", "").partition(";")[0]
    known[f"<etag of {name}>"] = headers.get("etag", "")
    if headers.get("content-type") != "application/json":
        return
    body = answer["body"]
    body = base64.b64decode(body) if answer["isBase64Encoded"] else body
    value = json.loads(body or "null")
    if isinstance(value, dict):
        known[f"<{name}>"] = str(value.get("id", ""))
        known[f"<link of {name}>"] = str(value.get("url", "")).partition("?link=")[2]


def main() -> None:
    folder, file = sys.argv[1:3]
    requests = json.load(sys.stdin)
    time.time = lambda: _moment[0]
    secrets.token_hex = lambda count=32: "0" * (2 * count)
    secrets.randbelow = lambda _limit: 7
    sys.stdout = log = io.StringIO()
    sys.path.insert(0, folder)
    module = importlib.import_module("app")
    app = module.app
    if "EASEL_DEADLINE_SECONDS" in os.environ:
        # On a busy machine, making the clients takes longer than the deadline of these requests.
        for provider in (module.images()._runtime, module.images()._s3):
            provider.client()
    routes = {path: sorted(methods) for path, methods in app.routes.items()}
    answers, known = [], {}
    for request in requests:
        request["path"] = filled(request["path"], known)
        request["headers"] = {
            name: filled(value, known) for name, value in request["headers"].items()
        }
        _moment[0] = NOW + request.get("later", 0)
        answer = app(event_of(routes, request), Context())
        remember(known, request["name"], answer)
        answers.append({"answer": answer, "log": log.getvalue().splitlines()})
        log.seek(0)
        log.truncate()
    Path(file).write_text(json.dumps({"routes": routes, "answers": answers}), "utf-8")
    # Some threads still wait for a model that never answers.
    os._exit(0)


if __name__ == "__main__":
    main()
