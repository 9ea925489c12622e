"""The gateway's answers, as its Lambda handler gives them; and what it leaves in S3 and in the log.

Nothing of the gateway is imported here: `handler.py` calls `app.app(event, context)` in a process
of its own.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from tests.contract import aws
from tests.contract.cases import DEPLOYMENTS, MODELS, Deployment, Request
from tests.contract.wording import digest, outline, reduced

ROOT = Path(__file__).parents[2]
_HANDLER = Path(__file__).with_name("handler.py")
_LOG_VOLATILE = {
    "timestamp",
    "Timestamp",
    "milliseconds",
    "endpoint_milliseconds",
    "queue_milliseconds",
    "Latency",
}
_LOG_PROSE = {"message", "exception", "exception_name", "stack_trace"}


@cache
def answers() -> dict[str, Any]:
    """Return what every deployment answers, by its name; and what all of them left."""
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(DEPLOYMENTS, pool.map(_run, DEPLOYMENTS.values()), strict=True))


def http(name: str) -> dict[str, Any]:
    """Return the answers of one deployment."""
    answered = answers()[name]["answers"]
    preflights: dict[str, list[str]] = {}
    others = {}
    for title, answer in answered.items():
        if answer["request"].startswith("OPTIONS") and title.endswith(answer["request"]):
            same = json.dumps({**answer, "request": "OPTIONS"})
            preflights.setdefault(same, []).append(answer["request"])
        # API Gateway lets no other methods through than the table of routes has.
        elif answer["status"] != 405 or name != "routes":
            others[title] = answer
    alike = [{**json.loads(same), "request": paths} for same, paths in preflights.items()]
    return {"answers": others, "preflights": alike}


def routes() -> dict[str, Any]:
    """Return the gateway's routes with their methods."""
    return dict(sorted(answers()["routes"]["routes"].items()))


def openapi() -> Any:
    """Return the OpenAPI document without its words."""
    return reduced(answers()["routes"]["openapi"])


def storage() -> dict[str, Any]:
    """Return what pictures, jobs and links left in S3."""
    return {
        name: answers()[name]["objects"]
        for name in ("pictures", "dialects", "waiting", "keys", "stored")
    }


def invocations() -> dict[str, Any]:
    """Return what SageMaker Runtime was sent."""
    return {
        name: answers()[name]["invocations"] for name in ("pictures", "dialects", "keys", "stored")
    }


def log() -> dict[str, Any]:
    """Return the log lines, key by key; of requests that look alike in the log, a few."""
    names = ("pictures", "trouble", "dialects", "keys", "limits", "warnings", "unset")
    return {
        name: {
            title: lines
            for title, lines in answers()[name]["log"].items()
            if not title.endswith(": a person") and "OPTIONS" not in title and "key: /" not in title
        }
        for name in names
    }


def call(
    folder: Path, requests: Sequence[Request], environment: dict[str, str], *flags: str
) -> dict[str, Any]:
    """Return what the handler in a folder answers, in a process of its own.

    Raises:
        RuntimeError: if it fails; with what it printed.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "answers.json"
        command = [sys.executable, *flags, str(_HANDLER), str(folder), str(file)]
        done = subprocess.run(
            command,
            cwd=place,
            env={**_variables(), **environment},
            input=json.dumps(list(requests)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not file.exists():
            raise RuntimeError(done.stdout + done.stderr)
        answers: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return answers


def _variables() -> dict[str, str]:
    """Return this process's own without what would lead to a real account or other settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "EASEL_", "PYTHON"))
    }
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONHASHSEED": "0",
    }


def _run(deployment: Deployment) -> dict[str, Any]:
    with aws.serve() as server:
        for address, content in deployment.objects.items():
            server.put(address, content)
        environment = {"AWS_ENDPOINT_URL": server.url, **deployment.environment}
        if deployment.models:
            environment["EASEL_MODELS"] = json.dumps(MODELS)
        named = [{"name": name, **each} for name, each in deployment.requests.items()]
        given = call(ROOT / "gateway", named, environment, "-P")
    answered = dict(zip(deployment.requests, given["answers"], strict=True))
    raw = answered.get("GET /openapi.json", {}).get("answer")
    return {
        "routes": given["routes"],
        "openapi": json.loads(_body(raw)) if raw else None,
        "answers": {
            name: _readable(deployment.requests[name], each["answer"], raw is None)
            for name, each in answered.items()
        },
        "log": {name: [_log_line(line) for line in each["log"]] for name, each in answered.items()},
        "objects": {
            _place(address): _content(body) for address, body in sorted(server.ever.items())
        },
        # Pictures of one call are sent side by side, in any order.
        "invocations": sorted(server.invocations, key=json.dumps),
    }


def _body(answer: dict[str, Any]) -> bytes:
    body = answer.get("body") or ""
    return base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()


def _readable(request: Request, answer: dict[str, Any], short: bool) -> dict[str, Any]:
    several = {
        name: values if len(values) > 1 else values[0]
        for name, values in (answer.get("multiValueHeaders") or {}).items()
    }
    headers = {**answer["headers"], **several}
    lower = {name.lower(): value for name, value in headers.items()}
    kind = lower.get("content-type", "")
    return {
        "request": f"{request['method']} {request['path']}",
        "status": answer["statusCode"],
        "headers": _headers(headers, kind, answer["statusCode"]),
        "binary": answer.get("isBase64Encoded", False),
        **_shown(_body(answer), kind, answer["statusCode"], short),
    }


def _headers(headers: dict[str, Any], kind: str, status: int) -> dict[str, Any]:
    shown = {}
    for name, value in sorted(headers.items()):
        text = reduced(value)
        if name == "ETag" and kind.startswith("text/html"):
            text = "<hash of the page>"
        if name == "Retry-After" and status == 429:
            text = "<seconds>"
        shown[name] = text
    return shown


def _shown(body: bytes, kind: str, status: int, short: bool) -> dict[str, Any]:
    if not body:
        return {}
    if kind.startswith("text/html"):
        tags = outline(body.decode())
        return {"page": tags if len(tags) < 200 or not short else digest("\n".join(tags).encode())}
    if kind.startswith("application/json"):
        value = json.loads(body)
        if isinstance(value, dict) and "openapi" in value:
            return {"json": "<the OpenAPI document>"}
        shown = reduced(value)
        if status == 429:
            _hide(shown, "retry_after", "<seconds>")
        return {"json": shown}
    if kind.startswith("text/plain"):
        text = body.decode()
        return {"text": text if text.startswith("User-agent") else "<prose>"}
    return {"body": digest(body)}


def _hide(value: Any, name: str, shown: str) -> None:
    """Replace a field, at the top or one level below."""
    for part in (value, *value.values()):
        if isinstance(part, dict) and name in part:
            part[name] = shown


def _place(address: str) -> str:
    """Return an object's address; which place to wait in is taken is left to chance."""
    return re.sub(r"/waiting/\d+$", "/waiting/<place>", address)


def _content(body: bytes) -> Any:
    try:
        value = json.loads(body)
    except ValueError:
        return digest(body)
    if isinstance(value, dict) and "owner" in value:
        value["owner"] = f"<{len(value['owner'])} characters>"
    return value


def _log_line(line: str) -> Any:
    try:
        value = json.loads(line)
    except ValueError:
        return "<no JSON>"
    return _log_fields(value)


def _log_fields(value: Any) -> Any:
    if isinstance(value, list):
        return [_log_fields(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: "<volatile>"
        if name in _LOG_VOLATILE
        else "<prose>"
        if name in _LOG_PROSE
        else _log_fields(value[name])
        for name in sorted(value)
    }
