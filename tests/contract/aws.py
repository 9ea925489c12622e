"""A SageMaker Runtime and an S3 that always answer the same, at one address.

An endpoint's name says what it does: `sd` returns a picture at once, `throttled` is throttled, and
so on. A picture's colour depends on the whole request body, so the hash of an answer proves what
was sent to the model.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

# Encoders differ from version to version, so the two other formats are fixed files.
WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9"
# Longer than any answer of Lambda's.
TOO_LARGE = 6_291_556
SLOW_SECONDS = 30.0

_UNTIL = re.compile(r"\buntil=[0-9.]+$")
_RUNTIME = re.compile(r"/endpoints/([^/]+)/(async-)?invocations")
_OURS = {"error": {"code": "moderation_blocked", "message": "The picture was blocked."}}
_FIELD = {"error": {"code": "invalid_request", "message": "steps: too many", "field": "steps"}}
_MEMORY = {"error": {"code": "out_of_memory", "message": "out of memory"}}

# Of every object: later than whatever the clock of the handler shows.
_WRITTEN = formatdate(4_000_000_000, usegmt=True)


def _failed(status: int, message: str) -> tuple[int, str, dict[str, Any]]:
    """Return the error that SageMaker makes of a container's own."""
    return 424, "ModelError", {"OriginalStatusCode": status, "OriginalMessage": message}


# Endpoint: HTTP status, error type, members of the error beside the message.
REFUSALS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "gone": (400, "ValidationError", {"Message": "Endpoint gone of account 1 not found."}),
    "invalid": (400, "ValidationError", {"Message": "1 validation error detected."}),
    "throttled": (400, "ThrottlingException", {}),
    "denied": (403, "AccessDeniedException", {}),
    "unready": (429, "ModelNotReadyException", {}),
    "unavailable": (503, "ServiceUnavailable", {}),
    "internal": (500, "InternalFailure", {}),
    "failing": _failed(500, "Worker died."),
    "crowded": _failed(503, ""),
    "blocked": _failed(400, json.dumps(_OURS)),
    "picky": _failed(400, json.dumps(_FIELD)),
    "full": _failed(500, json.dumps(_MEMORY)),
}


def picture(body: bytes, accept: str) -> bytes:
    """Return the picture of a request: one pixel, whose colour is the request's hash."""
    if accept != "image/png":
        return {"image/webp": WEBP, "image/jpeg": JPEG}[accept]
    colour = hashlib.sha256(body).digest()[:3]
    parameters = f"{json.loads(body)['prompt']}\nSteps: 2, Sampler: Euler, CFG scale: 5, Version: 1"
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        (b"tEXt", b"parameters\0" + parameters.encode("latin-1", "replace")),
        (b"IDAT", zlib.compress(b"\0" + colour, 0)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


class Aws:
    """What is stored, and what was invoked.

    Attributes:
        objects: content by `bucket/key`, also of those that were deleted since.
        invocations: what the gateway sent to SageMaker Runtime, in the order of arrival.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.url = ""
        self.objects: dict[str, bytes] = {}
        self.ever: dict[str, bytes] = {}
        self.invocations: list[dict[str, Any]] = []

    def put(self, address: str, body: bytes) -> None:
        """Store an object; the caller holds the lock."""
        self.objects[address] = self.ever[address] = body


@contextmanager
def serve() -> Iterator[Aws]:
    """Listen on a free port while the context lasts."""
    aws = Aws()

    class Handler(_Handler):
        state = aws

    server = _Server(("127.0.0.1", 0), Handler)
    aws.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up; some are meant to."""


class _Handler(BaseHTTPRequestHandler):
    state: Aws
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        length = headers.pop("length", str(len(body)))
        for name, value in {**headers, "Content-Length": length}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # --- SageMaker Runtime

    def do_POST(self) -> None:
        route = _RUNTIME.fullmatch(urlsplit(self.path).path)
        body = self._read()
        if route is None:
            self._send(404)
            return
        self._note(route[1], bool(route[2]), body)
        if route[1] in REFUSALS:
            self._refuse(*REFUSALS[route[1]])
        elif route[2]:
            self._queue(route[1], body)
        else:
            self._invoke(route[1], body)

    def _note(self, endpoint: str, asynchronous: bool, body: bytes) -> None:
        headers = {
            name: _UNTIL.sub("until=TIME", value)
            for name, value in sorted(self.headers.items())
            if name.lower() in {"content-type", "accept"} or "sagemaker" in name.lower()
        }
        entry = {
            "operation": "InvokeEndpointAsync" if asynchronous else "InvokeEndpoint",
            "endpoint": endpoint,
            "headers": headers,
            "body": json.loads(body),
        }
        with self.state.lock:
            self.state.invocations.append(entry)

    def _refuse(self, status: int, kind: str, members: dict[str, Any]) -> None:
        error = json.dumps({"Message": "This is AWS's own wording.", **members}).encode()
        self._send(status, error, x_amzn_ErrorType=kind, Content_Type="application/json")

    def _invoke(self, endpoint: str, body: bytes) -> None:
        accept = self.headers["Accept"]
        whole = picture(body, accept)
        if endpoint == "cut":
            self.close_connection = True
        elif endpoint == "half":
            self._send(200, whole[:20], length=str(len(whole)))
            self.close_connection = True
        elif endpoint == "rubbish":
            self._send(200, b"<html></html>", Content_Type="text/html")
        elif endpoint == "large":
            self._send(200, bytes(TOO_LARGE), Content_Type=accept)
        else:
            if endpoint == "slow":
                time.sleep(SLOW_SECONDS)
            self._send(200, whole, Content_Type=accept)

    def _queue(self, endpoint: str, body: bytes) -> None:
        """Take a request; what becomes of it is there at once, or never."""
        given = {
            name.lower().removeprefix("x-amzn-sagemaker-"): value
            for name, value in self.headers.items()
        }
        below = f"easel-{endpoint}/jobs"
        output = f"{below}/outputs/{given['s3outputpathextension']}/{given['filename']}"
        failure = f"{below}/failures/one-error.out"
        with self.state.lock:
            if endpoint == "done":
                self.state.put(output, picture(body, given["accept"]))
            elif endpoint == "huge":
                self.state.put(output, bytes(TOO_LARGE))
            elif endpoint == "failed":
                self.state.put(failure, b"Received server error (500) from model.")
            elif endpoint == "refused":
                self.state.put(failure, f"Received client error: {json.dumps(_OURS)}".encode())
        self._send(
            202,
            b'{"InferenceId": "one"}',
            X_Amzn_SageMaker_OutputLocation=f"s3://{output}",
            X_Amzn_SageMaker_FailureLocation=f"s3://{failure}",
        )

    # --- S3, path style

    def _address(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def do_GET(self) -> None:
        with self.state.lock:
            body = self.state.objects.get(self._address())
        if body is None:
            self._error(404, "NoSuchKey")
        else:
            self._send(200, body, ETag=_tag(body), Last_Modified=_WRITTEN)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        body, address = self._read(), self._address()
        with self.state.lock:
            present = self.state.objects.get(address)
            taken = self.headers.get("If-None-Match") == "*" and present is not None
            expected = self.headers.get("If-Match")
            stale = expected is not None and present is not None and expected != _tag(present)
            missing = expected is not None and present is None
            if not (taken or stale or missing):
                self.state.put(address, body)
        if missing:
            self._error(404, "NoSuchKey")
        elif taken or stale:
            self._error(412, "PreconditionFailed")
        else:
            self._send(200, ETag=_tag(body))

    def do_DELETE(self) -> None:
        with self.state.lock:
            self.state.objects.pop(self._address(), None)
        self._send(204)

    def _error(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self._send(status, body, Content_Type="application/xml")


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
