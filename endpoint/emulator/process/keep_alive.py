"""Werkzeug's request handler, with connections that stay open as AWS's do.

Werkzeug's own handler closes each connection after one response, and before that waits 10 ms for
more data. For clients that poll S3, that is most of the work.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.datastructures import Headers
from werkzeug.exceptions import InternalServerError
from werkzeug.test import run_wsgi_app

logger = logging.getLogger(__name__)

# Statuses whose answers have no body, and so no length.
_EMPTY = {204, 304}


class KeepAliveHandler(MotoRequestHandler):
    """Reads each request to its end before the application runs, so that the next can follow."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave in one write.
    wbufsize = -1
    disable_nagle_algorithm = True

    def finish(self) -> None:
        """Close the connection's files, also where the client has gone and the last bytes stay."""
        try:
            super().finish()
        finally:
            self.rfile.close()

    def run_wsgi(self) -> None:
        """Answer one request."""
        # botocore sends it before an object's body, and waits up to a second for this line.
        if self.headers.get("Expect", "").lower().strip() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        self.environ = environ = self._read()
        try:
            parts, status, headers = self._answer(environ)
            self._send(parts, status, headers)
        except ConnectionError:  # the application cuts it, or the client has gone
            self.close_connection = True

    def handle_expect_100(self) -> bool:
        """Leave it to `run_wsgi`."""
        return True

    def _read(self) -> dict[str, Any]:
        environ = self.make_environ()
        if not environ.get("wsgi.input_terminated"):
            body = self.rfile.read(int(environ.get("CONTENT_LENGTH") or 0))
        else:  # it came in chunks, and werkzeug puts them together
            body = environ["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(body)
        return environ

    def _answer(self, environ: dict[str, Any]) -> tuple[Iterable[bytes], str, Headers]:
        try:
            return run_wsgi_app(self.server.app, environ)
        except ConnectionError:
            raise
        except Exception:
            logger.exception("A call failed inside the emulator")
            return run_wsgi_app(InternalServerError(), environ)

    def _send(self, parts: Iterable[bytes], status: str, headers: Headers) -> None:
        code, _, reason = status.partition(" ")
        has_length = "Content-Length" in headers or int(code) in _EMPTY
        if not has_length:
            parts = [b"".join(parts)]
            headers["Content-Length"] = str(len(parts[0]))
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        for part in parts:
            if self.command != "HEAD":
                self.wfile.write(part)
                self.wfile.flush()
        self.wfile.flush()

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - inherited name
        """Log nothing."""
