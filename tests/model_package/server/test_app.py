"""Each path of a running server, with requests that are right, wrong and hostile."""

import json
import re
import socket
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model_package.server.served import Callers, unique

JSON = "application/json"


def raw(server, text):
    """Send bytes as they are, and return all that comes back until the connection closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def error(response):
    assert response.headers["Content-Type"] == JSON
    assert int(response.headers["Content-Length"]) == len(response.data)
    return response.json()["error"]


def test_ping_is_200_without_a_body(server):
    response = server.get("/ping")

    assert (response.status, response.data) == (200, b"")
    assert response.headers["Content-Length"] == "0"


def test_an_invocation_returns_raw_bytes_with_their_length(server):
    response = server.invoke("a cat", times=300_000)

    assert (response.status, response.headers["Content-Type"]) == (200, "image/png")
    assert response.data == b"\x89PNG" + b"a cat" * 300_000
    assert response.headers["Content-Length"] == str(len(response.data))
    assert "Transfer-Encoding" not in response.headers
    assert sum(len(name) + len(value) + 4 for name, value in response.headers.items()) < 4096


def test_headers_of_a_script_that_are_too_long_are_left_out(server):
    body = json.dumps({"prompt": "x", "headers": 5000})
    response = server.request("POST", "/invocations", body, Content_Type=JSON, Accept="image/png")
    assert response.status == 200
    assert "X-Long" not in response.headers


def test_a_description_needs_no_painting(server):
    response = server.invoke(describe=True)

    assert response.json() == {"described": str(server.folder)}
    assert server.health()["queue"] == {"waiting": 0, "painting": 0, "seconds": 0}


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("{}", JSON, "prompt: is missing"),
        ("[]", JSON, "prompt: is missing"),
        ("{", JSON, "Expecting"),
        (b"\xff\xfe", JSON, "UTF-8"),
        ('{"prompt": "x"}', "text/plain", "Content-Type"),
        ('{"prompt": "x"}', "application/jsonx", "Content-Type"),
        ('{"prompt": "x", "lora": "y"}', JSON, "no such adapter"),
    ],
)
def test_a_wrong_request_is_refused_before_it_is_painted(server, body, kind, message):
    before = server.painted()
    response = server.request("POST", "/invocations", body, Content_Type=kind)

    assert response.status == 400
    assert message in error(response)["message"]
    assert error(response)["code"] == "invalid_request"
    assert server.painted() == before


def test_what_a_request_has_to_wait_for_delays_no_other(server):
    gate, callers = unique(), Callers()
    callers.call(lambda: server.invoke("late", prepare=gate))
    callers.call(lambda: server.invoke("later", prepare=gate, lora="x"))
    assert server.invoke("meanwhile").status == 200
    assert server.ping() == 200
    server.open(gate)

    assert callers.statuses() == [200, 400]


def test_a_failure_of_the_script_is_a_500_whose_reason_is_in_the_log(server):
    response = server.invoke(unwritable=True)

    assert (response.status, error(response)["code"]) == (500, "generation_failed")
    assert "cannot be encoded" not in response.data.decode()
    assert "cannot be encoded" in server.events("generation_failed")[-1]["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/invocations", 405, {"POST"}),
        ("PUT", "/invocations", 405, {"POST"}),
        ("POST", "/ping", 405, {"GET", "HEAD"}),
        ("DELETE", "/predict", 405, {"GET", "POST", "HEAD"}),
        ("HEAD", "/predict?prompt=x", 405, {"GET", "POST"}),
        ("GET", "/nowhere", 404, None),
        ("GET", "/ping/", 404, None),
        ("GET", "/../etc/passwd", 404, None),
        ("GET", "/progress/unknown", 404, None),
        ("GET", "/progress/" + "x" * 5000, 404, None),
    ],
)
def test_wrong_methods_and_paths_are_refused_in_json(server, method, path, status, allow):
    response = server.request(method, path)

    assert response.status == status
    if method != "HEAD":
        assert error(response)["message"]
    assert set(re.findall(r"\w+", response.headers.get("Allow", ""))) == (allow or set())


def test_a_body_that_is_too_large_is_a_413_that_the_caller_can_read(own):
    server = own(MMS_MAX_REQUEST_SIZE="1000").ready()
    body = json.dumps({"prompt": "x" * 980})
    assert server.request("POST", "/invocations", body, Content_Type=JSON).status == 200
    body = json.dumps({"prompt": "x" * 2000})
    response = server.request("POST", "/invocations", body, Content_Type=JSON)
    assert (response.status, error(response)["code"]) == (413, "too_large")
    chunks = iter([b'{"prompt": "', b"x" * 2000, b'"}'])
    response = server.request("POST", "/invocations", chunks, Content_Type=JSON)
    # The rest of a body that is not read to its end would be taken for the next request.
    assert (response.status, response.headers["Connection"]) == (413, "close")
    assert server.ping() == 200


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET /ping HTTP/1.1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX\x00: y\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_server_goes_on(server, text):
    assert raw(server, text).startswith(b"HTTP/1.1 400")
    assert server.ping() == 200


def test_a_body_in_another_encoding_is_refused_in_plain_words(server):
    body = '{"prompt": "ü"}'.encode("latin-1")
    response = server.request("POST", "/invocations", body, Content_Type=JSON)
    assert error(response)["message"] == "The body must be application/json in UTF-8."


@settings(max_examples=25, deadline=None)
@given(
    body=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: json.dumps(text)),
    trace=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100),
    accept=st.sampled_from(["", "*/*", "text/html", "image/png", "image/png;q=1", "\xff"]),
)
def test_whatever_is_sent_has_a_complete_response(server, body, trace, accept):
    response = server.request(
        "POST",
        "/invocations",
        body,
        Content_Type=JSON,
        Accept=accept,
        X_Amzn_SageMaker_Inference_Id=trace,
    )
    assert response.status == 400
    assert error(response)["code"] == "invalid_request"


# For people


def test_predict_returns_a_picture_for_a_url(server):
    response = server.get("/predict?prompt=a%20red%20apple&times=2", Accept="text/html,*/*;q=0.8")

    assert (response.status, response.headers["Content-Type"]) == (200, "image/png")
    assert response.data == b"\x89PNG" + b"a red apple" * 2


@pytest.mark.parametrize("prompt", ["7", "-1.5", "true", "null", '{"a": 1}', "ü", "a&b"])
def test_a_prompt_in_a_url_stays_text(server, prompt):
    response = server.request("GET", "/predict?" + urlencode({"prompt": prompt}))

    assert response.data == b"\x89PNG" + prompt.encode()


@pytest.mark.parametrize(
    "query", ["prompt=x&prompt=y", "prompt=x&seed=1&seed=1", "trace=a&trace=b"]
)
def test_a_parameter_that_is_given_twice_is_refused(server, query):
    response = server.get(f"/predict?{query}")

    assert (response.status, error(response)["field"]) == (400, query.rpartition("&")[2][:-2])


@pytest.mark.parametrize(
    ("accept", "body", "kind"),
    [
        ("", {}, "image/png"),
        ("image/avif,image/webp,*/*", {}, "image/png"),
        ("", {"format": "webp"}, "image/webp"),
        ("*/*", {"format": "jpeg"}, "image/jpeg"),
        ("*/*", {"format": ["jpeg"]}, "image/png"),
        ("application/json", {"format": "jpeg"}, JSON),
        ("Application/JSON; q=1", {}, JSON),
        ("*/*", {"describe": True}, JSON),
    ],
)
def test_predict_returns_the_format_of_the_request_unless_json_is_accepted(
    server, accept, body, kind
):
    body = json.dumps({"prompt": "x", **body})
    response = server.request("POST", "/predict", body, Accept=accept)

    assert (response.status, response.headers["Content-Type"]) == (200, kind)


def test_the_page_loads_nothing_from_elsewhere(server):
    response = server.get("/")

    assert response.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert not re.search(rb"(?:src|href)=\"?https?:", response.data)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example"])
def test_a_name_that_resolves_to_this_machine_is_refused(server, host):
    response = server.get("/predict?prompt=x", Host=host)
    assert (response.status, error(response)["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
    ],
)
def test_pages_of_other_sites_paint_nothing(server, headers, status):
    assert server.get("/predict?prompt=x", **headers).status == status


def test_the_servers_own_page_can_paint(server):
    origin = server.url
    assert server.request("POST", "/predict", '{"prompt": "x"}', Origin=origin).status == 200


def test_other_machines_can_use_any_name_but_no_other_sites_page(own):
    server = own("--host", "0.0.0.0").ready()
    assert server.get("/predict?prompt=x", Host="model.example:8080").status == 200
    assert server.get("/predict?prompt=x", Origin="https://evil.example").status == 403
    assert server.get("/predict?prompt=x", Sec_Fetch_Site="cross-site").status == 403


# For operators


def test_progress_belongs_to_its_trace(server):
    gate, trace = unique(), unique("trace")
    callers = Callers()
    named = {"X_Amzn_SageMaker_Inference_Id": trace}
    callers.call(lambda: server.invoke("secret", wait=gate, steps=2, headers=named))
    server.until(lambda: server.get(f"/progress/{trace}").status == 200)
    server.until(lambda: server.get(f"/progress/{trace}").json()["state"] == "painting")
    progress = server.get(f"/progress/{trace}?preview=1")
    assert progress.json()["preview"] is None
    assert progress.headers["Cache-Control"] == "no-store"
    assert server.get(f"/progress/{trace[:-1]}").status == 404
    server.open(gate)

    assert callers.statuses() == [200]
    done = server.get(f"/progress/{trace}").json()
    assert done == {"state": "done", "step": 2, "steps": 2, "seconds_left": None}


def test_a_preview_is_a_picture_in_a_data_url(own):
    server = own(EASEL_STOP_SECONDS="0.1").ready()
    callers = Callers()
    callers.call(lambda: server.get("/predict?prompt=x&wait=a&steps=1000000000&trace=t"))
    server.until(lambda: server.get("/progress/t").status == 200)
    server.open("a")

    def preview():
        return server.get("/progress/t?preview=1").json()["preview"]

    server.until(preview)
    assert preview().startswith("data:image/png;base64,iVBOR")
    assert server.end() == 0


@pytest.mark.parametrize("trace", ["x" * 65, "\t"])
def test_what_is_no_trace_is_no_error(server, trace):
    assert server.invoke(headers={"X_Amzn_SageMaker_Inference_Id": trace}).status == 200


def test_health_shows_states_queue_batch_and_versions(server):
    health = server.health()

    assert health["state"] == "READY"
    assert health["batch"] == {"capacity": 4, "mode": "double"}
    assert health["model"] == server.folder.name
    assert {"python", "starlette", "uvicorn"} <= set(health["software"])


def test_metrics_are_prometheus_text(server):
    server.invoke()
    response = server.get("/metrics")

    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = response.data.decode().splitlines()
    sample = re.compile(r'easel_\w+(?:\{\w+="[^"]*"\})? [-+0-9.e]+')
    assert all(line.startswith("# ") or sample.fullmatch(line) for line in lines)
    assert any(line.startswith('easel_responses_total{status="200"} ') for line in lines)


def test_nothing_of_a_prompt_is_in_the_log_or_in_what_operators_read(server):
    word = unique("secret")
    named = {"X_Amzn_SageMaker_Inference_Id": unique("trace")}
    server.invoke(word, headers=named)
    server.invoke(word, lora="x")
    server.invoke(word, unwritable=True)
    server.get(f"/predict?prompt={word}")
    read = [server.get(path).data.decode() for path in ("/health", "/metrics")]

    assert word not in server.output()
    assert word not in "".join(read)


def test_each_response_has_one_line_in_the_log(server):
    trace = unique("trace")
    server.invoke(headers={"X_Amzn_SageMaker_Inference_Id": trace})
    server.until(lambda: any(line["trace"] == trace for line in server.events("response")))
    (line,) = [line for line in server.events("response") if line["trace"] == trace]

    assert (line["status"], line["bytes"]) == (200, 9)
