"""`chalice local` in a process that ends with its parent.

Arguments: the gateway's folder and a port. The gateway itself is unchanged, and can import only its
folder and the installed packages.

POST to INVOCATIONS invokes the function with an event that is no request, such as EventBridge's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import chalice.local
from chalice.cli import main as chalice_command

from endpoint.core.local_addresses import foreign_host, foreign_page
from endpoint.emulator.apigateway.gateway_responses import read_responses, unknown_path
from endpoint.emulator.lambda_.functions import INVOCATIONS
from endpoint.emulator.process.orphans import end_with_parent


def main() -> None:
    """Serve the stage `local` on 127.0.0.1."""
    end_with_parent()
    folder, port = Path(sys.argv[1]), sys.argv[2]
    # Flaws of chalice 1.34's development server, not of the gateway: it writes headers and body
    # separately, which costs 40 ms per request on a kept connection, and it queues only five
    # clients.
    chalice.local.ChaliceRequestHandler.disable_nagle_algorithm = True
    chalice.local.ThreadedHTTPServer.request_queue_size = 128
    chalice.local.ChaliceRequestHandler.parse_request = _parse_request
    template = folder / ".chalice" / "responses.json"
    responses = read_responses(template) if template.is_file() else {}
    # What `deploy` sets on AWS, where chalice's server imitates API Gateway without it.
    chalice.local.ChaliceRequestHandler.send_header = _send_header
    gateway: Any = chalice.local.LocalGateway
    gateway.handle_request = _with_responses(responses)
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry) != Path.cwd()]
    os.chdir(folder)
    # Without --no-autoreload chalice starts a second process, which outlives the first.
    sys.argv[1:] = ["local", "--stage", "local", "--no-autoreload", "--port", port]
    sys.exit(chalice_command())


def _parse_request(self: chalice.local.ChaliceRequestHandler) -> bool:
    """Read a request for this machine's own addresses, and route `/sdapi/` to `/api/sdapi/`.

    Which sites' pages can use it, the gateway itself decides.

    SillyTavern keeps only the host of the address that it is configured with. On AWS a custom
    domain solves that.
    """
    complete = BaseHTTPRequestHandler.parse_request(self)
    if complete:
        # A request target can be a whole URL, whose host then counts.
        target = [urlsplit(self.path).netloc] if not self.path.startswith(("/", "*")) else []
        reason = foreign_host([*self.headers.get_all("Host", []), *target])
        if reason is not None:
            self.close_connection = True
            self.send_error(403, explain=reason)
            return False
    if complete and self.path.startswith("/sdapi/"):
        self.path = f"/api{self.path}"
    return complete


def _send_header(self: chalice.local.ChaliceRequestHandler, keyword: str, value: str) -> None:
    """Send a header, except for the length of the body that a response to HEAD has not."""
    if self.command != "HEAD" or keyword.lower() != "content-length":
        BaseHTTPRequestHandler.send_header(self, keyword, value)


def _with_responses(responses: Mapping[str, Any]) -> Callable[..., Any]:
    """Return `handle_request` with the API's own response to a path that it does not have."""
    handle_request = chalice.local.LocalGateway.handle_request

    def handle(
        self: chalice.local.LocalGateway,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
    ) -> Any:
        names = {name.lower(): value for name, value in headers.items()}
        if (method, path) == ("POST", INVOCATIONS):
            return _invoke(self, names, body)
        try:
            handled = handle_request(self, method, path, headers, body)
            # Chalice itself refuses a method; API Gateway does not pass it on to the function.
            if handled["statusCode"] != 405:
                return handled
        except chalice.local.ForbiddenError:
            pass
        host, signed = names.get("host", ""), "authorization" in names
        response = unknown_path(responses, signed=signed, domain=host, stage="api")
        return {
            "statusCode": response.status,
            "headers": dict(response.headers),
            "multiValueHeaders": {},
            # It is plain HTTP here.
            "body": response.body.decode().replace("https://", "http://"),
        }

    return handle


def _invoke(
    gateway: chalice.local.LocalGateway, headers: Mapping[str, str], body: bytes | None
) -> dict[str, Any]:
    """Invoke the function; a web page cannot, as it cannot on AWS."""
    origins = [headers["origin"]] if "origin" in headers else []
    reason = foreign_page(origins, headers.get("sec-fetch-site", ""))
    if origins or reason:
        return _answer(403, {"errorMessage": reason or "A web page cannot invoke the function."})
    try:
        event = json.loads(body or b"null")
    except ValueError:
        event = None
    if not isinstance(event, dict) or "requestContext" in event:
        return _answer(400, {"errorMessage": "This is no event of a service."})
    try:
        return _answer(200, gateway._app_object(event, None))
    except Exception as error:  # noqa: BLE001 - as Lambda reports whatever a function raises
        return _answer(500, {"errorMessage": str(error), "errorType": type(error).__name__})


def _answer(status: int, result: Any) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    return {
        "statusCode": status,
        "headers": headers,
        "multiValueHeaders": {},
        "body": json.dumps(result),
    }


if __name__ == "__main__":
    main()
