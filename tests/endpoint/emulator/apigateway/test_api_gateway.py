from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import contextmanager
from typing import Any

import pytest

from endpoint.emulator.apigateway.api_gateway import ApiGateway
from endpoint.emulator.apigateway.api_gateway_document import Document
from endpoint.emulator.apigateway.gateway_responses import read_responses
from endpoint.emulator.apigateway.throttling import from_template
from endpoint.emulator.lambda_.lambda_runtime import Result, TooManyRequests
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.process.processes import ROOT
from tests.endpoint.emulator.apigateway import packaged
from tests.endpoint.emulator.apigateway.doubles import ask

OK = {"statusCode": 200, "headers": {"Content-Type": "text/plain"}, "body": "fine"}


class Double:
    """A function's double that remembers its events."""

    def __init__(self, act=lambda: OK, error=None):
        self.events: list[Any] = []
        self._act, self._error = act, error

    def invoke(self, event):
        self.events.append(event)
        return Result(self._act(), self._error, 0.0, None, 0)


@contextmanager
def before(package, function, **more):
    with ApiGateway(Document.read(package), function, **more).serve() as server:
        yield server.server_address[1]


def test_a_route_reaches_the_function_with_its_path_undecoded(package):
    function = Double()
    with before(package, function) as port:
        status, headers, body = ask(port, "/api/png/a%20b%2Fc%3F+d?seed=1")
    assert (status, body) == (200, b"fine")
    assert headers["content-type"] == "text/plain"
    assert len(headers["x-amzn-requestid"]) == 36
    [event] = function.events
    assert event["pathParameters"] == {"text": "a%20b%2Fc%3F+d"}
    assert event["queryStringParameters"] == {"seed": "1"}
    assert event["path"] == "/png/a%20b%2Fc%3F+d"
    assert event["requestContext"]["path"] == "/api/png/a%20b%2Fc%3F+d"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/nothing"),
        ("GET", "/api/png"),
        ("GET", "/api/png/"),
        ("GET", "/api/"),
        ("GET", "/api"),
        ("POST", "/api/health"),
        ("HEAD", "/api/health"),
        ("OPTIONS", "/api/health"),
    ],
)
def test_unknown_routes_and_methods_return_missing_authentication_token(package, method, path):
    function = Double()
    with before(package, function) as port:
        status, headers, body = ask(port, path, method)
    assert status == 403
    assert headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    if method != "HEAD":
        assert json.loads(body) == {"message": "Missing Authentication Token"}
    assert function.events == []


def test_an_unknown_route_with_an_authorization_header_counts_as_an_incomplete_signature(package):
    with before(package, Double()) as port:
        status, headers, body = ask(port, "/api/nothing", Authorization="Bearer x")
    assert status == 403
    assert headers["x-amzn-errortype"] == "IncompleteSignatureException"
    assert "requires 'Credential'" in json.loads(body)["message"]


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("MISSING_AUTHENTICATION_TOKEN", {}),
        ("INVALID_SIGNATURE", {"Authorization": "Bearer x"}),
    ],
)
def test_an_api_can_replace_the_response_to_an_unknown_route(package, kind, headers):
    document = Document.read(package)
    document.responses = {
        kind: {
            "statusCode": "404",
            "responseParameters": {"gatewayresponse.header.X-Own": "'yes'"},
            "responseTemplates": {"application/json": '"$context.domainName/$context.stage"'},
        }
    }
    with ApiGateway(document, Double()).serve() as server:
        port = server.server_address[1]
        status, received, body = ask(port, "/api/nothing", **headers)
    assert (status, received["x-own"]) == (404, "yes")
    assert json.loads(body) == f"127.0.0.1:{port}/api"


def test_each_method_has_a_bucket_of_its_own(package):
    document, clock = Document.read(package), Clock()
    document.throttling = {
        "*/*": {"throttlingRateLimit": 1.0, "throttlingBurstLimit": 3},
        "~1png~1{text}/GET": {"throttlingRateLimit": 0.1, "throttlingBurstLimit": 1},
    }
    with ApiGateway(document, Double(), clock=clock).serve() as server:
        port = server.server_address[1]

        def statuses(path, method="GET"):
            return [ask(port, path, method)[0] for _ in range(4)]

        assert statuses("/api/png/a") == [200, 429, 429, 429]
        assert ask(port, "/api/png/b")[0] == 429
        assert statuses("/api/echo") == statuses("/api/echo", "POST") == [200, 200, 200, 429]
        clock.skip(2)
        assert ask(port, "/api/echo")[0] == 200
        status, headers, body = ask(port, "/api/png/a")
        assert (status, json.loads(body)) == (429, {"message": "Too Many Requests"})
        assert headers["x-amzn-errortype"] == "TooManyRequestsException"
        clock.skip(10)
        assert statuses("/api/png/a") == [200, 429, 429, 429]


def test_the_limits_of_a_template_are_read():
    settings = from_template(
        [
            {
                "ResourcePath": path,
                "HttpMethod": method,
                "ThrottlingRateLimit": 1,
                "ThrottlingBurstLimit": 2,
            }
            for path, method in (("/*", "*"), ("/png/{text}", "GET"))
        ]
    )
    assert set(settings) == {"*/*", "~1png~1{text}/GET"}


@pytest.mark.parametrize(
    ("kind", "act", "request_", "status"),
    [
        ("THROTTLED", lambda: OK, {}, 429),
        ("REQUEST_TOO_LARGE", lambda: OK, {"method": "POST", "body": b"x" * 10_485_761}, 413),
        ("INTEGRATION_TIMEOUT", lambda: time.sleep(1) or OK, {}, 504),
        ("DEFAULT_5XX", lambda: "malformed", {}, 502),
    ],
)
def test_the_gateways_own_answers_let_other_sites_read_them(package, kind, act, request_, status):
    document = Document.read(package)
    document.responses = read_responses(ROOT / "gateway" / ".chalice" / "responses.json")
    burst = 0 if kind == "THROTTLED" else 1
    document.throttling = {"*/*": {"throttlingRateLimit": 0, "throttlingBurstLimit": burst}}
    with ApiGateway(document, Double(act), seconds=0.3).serve() as server:
        received, headers, body = ask(server.server_address[1], "/api/echo", **request_)

    assert received == status
    assert headers["access-control-allow-origin"] == "*"
    assert json.loads(body)["error"]["message"] == json.loads(body)["detail"]
    assert ("retry-after" in headers) == (status != 413)


def test_another_stage_is_forbidden(package):
    with before(package, Double()) as port:
        status, headers, body = ask(port, "/health")
    assert (status, json.loads(body)) == (403, {"message": "Forbidden"})
    assert headers["x-amzn-errortype"] == "ForbiddenException"


def test_reserved_paths_are_answered_by_the_service(package):
    function = Double()
    with before(package, function) as port:
        assert ask(port, "/ping")[0] == 200
    assert function.events == []


def test_options_are_answered_by_the_mock_integration(package):
    function = Double()
    with before(package, function) as port:
        status, headers, body = ask(port, "/api/png/cat", "OPTIONS", Origin="http://a.example")
    assert (status, body) == (200, b"")
    assert headers["access-control-allow-origin"] == "*"
    assert "GET" in headers["access-control-allow-methods"]
    assert function.events == []


def test_a_function_slower_than_the_gateway_is_a_504_and_runs_on(package):
    gate, ended = threading.Event(), threading.Event()

    def act():
        gate.wait(60)
        ended.set()
        return OK

    with before(package, Double(act), seconds=0.1) as port:
        status, _, body = ask(port, "/api/health")
        assert (status, json.loads(body)) == (504, {"message": "Endpoint request timed out"})
        gate.set()
        assert ended.wait(60)


@pytest.mark.parametrize("error", ["Unhandled", None])
def test_a_function_that_fails_or_returns_an_invalid_result_is_a_502(package, error):
    with before(package, Double(lambda: {"errorMessage": "secret"}, error)) as port:
        status, headers, body = ask(port, "/api/health")
    assert (status, json.loads(body)) == (502, {"message": "Internal server error"})
    assert headers["x-amzn-errortype"] == "InternalServerErrorException"


def test_a_throttled_function_is_a_500(package):
    def act():
        raise TooManyRequests("Rate Exceeded.")

    with before(package, Double(act)) as port:
        status, _, body = ask(port, "/api/health")
    assert (status, json.loads(body)) == (500, {"message": "Internal server error"})


def test_request_bodies_are_limited_to_ten_megabytes(package):
    function = Double()
    with before(package, function) as port:
        most = 10 * 1024 * 1024
        assert ask(port, "/api/echo", "POST", b"x" * most)[0] == 200
        status, headers, body = ask(port, "/api/echo", "POST", b"x" * (most + 1))
    assert status == 413
    assert json.loads(body) == {"message": f"HTTP content length exceeded {most} bytes."}
    assert headers["x-amzn-errortype"] == "RequestTooLargeException"
    assert len(function.events) == 1


def test_request_line_and_headers_share_a_limit(package):
    with before(package, Double()) as port:
        assert ask(port, "/api/png/" + "x" * 10_000)[0] == 200
        assert ask(port, "/api/png/" + "x" * 10_300)[0] == 431
        assert ask(port, "/api/health", Cookie="x" * 10_300)[0] == 431


def test_an_edge_optimised_api_has_a_shorter_limit_for_its_url(package):
    document = Document.read(package)
    document.regional = False
    with ApiGateway(document, Double()).serve() as server:
        assert ask(server.server_address[1], "/api/png/" + "x" * 8_200)[0] == 414


def test_preflights_break_without_conversion_to_text(package):
    document = Document.read(package)
    match = document.match("/png/cat")
    assert match is not None
    route = document.route(match, "OPTIONS")
    assert route is not None
    route.integration.pop("contentHandling")  # type: ignore[attr-defined]
    with ApiGateway(document, Double()).serve() as server:
        assert ask(server.server_address[1], "/api/png/cat", "OPTIONS")[0] == 500


def test_one_connection_serves_many_requests(package):
    with before(package, Double()) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(3):
            connection.request("GET", "/api/health")
            answer = connection.getresponse()
            assert answer.read() == b"fine"
            assert not answer.will_close
        connection.close()


def test_listed_binary_types_come_from_the_package(tmp_path):
    folder = packaged.write(tmp_path / "app")
    out = packaged.package(folder, tmp_path / "out", '["image/png"]')
    assert Document.read(out).binary_types == ["image/png"]
