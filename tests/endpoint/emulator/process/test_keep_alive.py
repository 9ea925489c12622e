from __future__ import annotations

import http.client
import logging

import pytest
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from endpoint.emulator.process.http_server import in_background
from endpoint.emulator.process.keep_alive import KeepAliveHandler


def app(environ, start_response):
    """Echo, unless the path asks for trouble."""
    request = Request(environ)
    match request.path:
        case "/deaf":  # reads nothing of what it is sent
            response = Response("not read")
        case "/broken":
            raise ValueError("broken")
        case "/cut":
            raise ConnectionAbortedError
        case "/drops":
            response = Response(iter([b"one ", b"two"]))
        case "/nothing":
            response = Response(status=204)
        case _:
            response = Response(request.get_data())
    return response(environ, start_response)


@pytest.fixture
def connection():
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=KeepAliveHandler)
    with in_background(server):
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        client.connect()
        yield client
        client.close()


def ask(client, path, **more):
    client.request(more.pop("method", "POST"), path, **more)
    answer = client.getresponse()
    return answer.status, answer.read()


def test_one_connection_serves_several_calls(connection):
    ours = connection.sock

    assert ask(connection, "/", body=b"first") == (200, b"first")
    assert ask(connection, "/drops") == (200, b"one two")
    assert ask(connection, "/nothing", method="DELETE") == (204, b"")
    assert ask(connection, "/", method="HEAD") == (200, b"")
    assert ask(connection, "/", body=iter([b"in ", b"chunks"]), encode_chunked=True) == (
        200,
        b"in chunks",
    )
    assert connection.sock is ours


def test_an_unread_body_is_not_parsed_as_the_next_request(
    connection,
):
    assert ask(connection, "/deaf", body=b"GET /broken HTTP/1.1\r\n\r\n") == (200, b"not read")
    assert ask(connection, "/", body=b"second") == (200, b"second")


def test_a_client_that_expects_100_continue_receives_it(
    connection,
):
    connection.sock.sendall(
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    )
    assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sock.sendall(b"body")
    assert connection.sock.recv(1_000).endswith(b"\r\n\r\nbody")


def test_an_error_in_the_application_is_a_500_and_is_logged(connection, caplog):
    with caplog.at_level(logging.ERROR):
        assert ask(connection, "/broken")[0] == 500

    assert "ValueError: broken" in caplog.text
    assert ask(connection, "/", body=b"well again") == (200, b"well again")


def test_the_application_can_end_a_connection(
    connection,
):
    with pytest.raises(http.client.RemoteDisconnected):
        ask(connection, "/cut")
