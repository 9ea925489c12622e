"""HTTP servers on 127.0.0.1: the standard library's, with keep-alive and without its delays."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any

from endpoint.core.local_addresses import foreign_host, foreign_page

Handler = Callable[..., BaseHTTPRequestHandler]
Headers = Iterable[tuple[str, str]]


class Server(ThreadingHTTPServer):
    """One thread per connection; a burst of clients is queued and not refused."""

    # The standard library's default is 5.
    request_queue_size = 128

    @property
    def url(self) -> str:
        """The address that clients use, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error in a handler, except for a client that disconnected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class QuietHandler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive and no log line per request."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave in one write: two, with Nagle's algorithm and delayed
    # acknowledgements, cost 40 ms each time.
    wbufsize = -1
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        """Read a request; one that a web page of another site can send is refused."""
        if not super().parse_request():
            return False
        reason = self.refusal()
        if reason is not None:
            # The body is not read, so nothing can follow on this connection.
            self.close_connection = True
            kind = ("Content-Type", "text/plain")
            self.answer(403, [kind, ("Connection", "close")], f"{reason}\n".encode())
        return reason is None

    def refusal(self) -> str | None:
        """Return why a request is refused before it is handled; None if it is not."""
        return foreign_host(self.headers.get_all("Host", [])) or foreign_page(
            self.headers.get_all("Origin", []), self.headers.get("Sec-Fetch-Site", "")
        )

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - inherited name
        """Log nothing."""

    def finish(self) -> None:
        """Close the connection's files, also where the client has gone and the last bytes stay."""
        try:
            super().finish()
        finally:
            self.rfile.close()

    def body(self) -> bytes:
        """Return the request's body as its Content-Length announces it."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send one whole response; Content-Length is added, if it is known."""
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        # To HEAD it would be that of the response to GET, whose body is not there.
        if body or self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


@contextmanager
def serving(handler: Handler, port: int = 0, **attributes: Any) -> Iterator[Server]:
    """Serve in threads while the context lasts; `attributes` are set on the server for handlers.

    Raises:
        OSError: when the port is taken.
    """
    server = Server(("127.0.0.1", port), handler)
    for name, value in attributes.items():
        setattr(server, name, value)
    with in_background(server):
        yield server


@contextmanager
def in_background(server: HTTPServer) -> Iterator[None]:
    """Run a server in a thread while the context lasts, and close its socket at the end."""
    # With the default poll interval of 0.5 s every shutdown would take up to that long.
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True, name="http"
    )
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
