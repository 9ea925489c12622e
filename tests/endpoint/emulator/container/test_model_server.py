from __future__ import annotations

import itertools
import json
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from endpoint.emulator.container.model_server import ModelServer

ECHO = """
    import json

    def model_fn(model_dir):
        return model_dir

    def input_fn(body, content_type):
        return [type(body).__name__, content_type, len(body)]

    def predict_fn(data, model, context):
        return {"input": data, "model": model, "headers": dict(context.get_all_request_header(0))}

    def output_fn(prediction, accept):
        return json.dumps({**prediction, "accept": accept})
"""


class Asked:
    """A model server under test, and a client of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool = urllib3.PoolManager(maxsize=130, block=True)

    def post(self, body: bytes = b"{}", **headers: str) -> urllib3.BaseHTTPResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._pool.request(
            "POST",
            f"{self.url}/invocations",
            body=body,
            headers={"Content-Type": "application/json", **named},
            retries=False,
            timeout=30,
        )

    def ping(self) -> int:
        return self._pool.request("GET", f"{self.url}/ping", retries=False, timeout=5).status


@contextmanager
def serving(folder: Path, **variables: str) -> Iterator[Asked]:
    server = ModelServer(folder, Path("/opt/ml/model"), {**os.environ, **variables})
    with server.serve() as running:
        yield Asked(running.url)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("echo")
    (folder / "inference.py").write_text(textwrap.dedent(ECHO), "utf-8")
    with serving(folder) as asked:
        yield asked


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "str"),
        ("text/csv", "str"),
        ("application/json; charset=utf-8", "bytearray"),
        ("APPLICATION/JSON", "bytearray"),
        ("text/plain", "bytearray"),
        ("image/png", "bytearray"),
    ],
)
def test_only_exact_json_and_csv_arrive_as_text(echo: Asked, content_type: str, kind: str) -> None:
    answer = echo.post(b"{}", Content_Type=content_type).json()
    assert answer["input"] == [kind, content_type, 2]


@pytest.mark.parametrize(
    ("accept", "seen"),
    [
        ("image/png", "image/png"),
        ("image/*", "image/*"),
        ("image/png,application/json;q=0.9", "image/png,application/json;q=0.9"),
        ("*/*", "application/json"),
    ],
)
def test_accept_is_the_responses_type_word_for_word(echo: Asked, accept: str, seen: str) -> None:
    answer = echo.post(Accept=accept)
    assert json.loads(answer.data)["accept"] == seen
    assert answer.headers["Content-Type"] == seen


def test_without_accept_the_answer_is_json(echo: Asked) -> None:
    answer = echo.post()
    assert answer.json()["accept"] == "application/json"
    assert answer.headers["Content-Type"] == "application/json"


def test_the_script_sees_the_model_folder_and_the_headers(echo: Asked) -> None:
    answer = echo.post(X_Amzn_SageMaker_Custom_Attributes="a=1").json()
    assert answer["model"] == "/opt/ml/model"
    assert answer["headers"]["X-Amzn-SageMaker-Custom-Attributes"] == "a=1"


def test_json_that_is_not_utf_8_is_the_requests_fault(echo: Asked) -> None:
    answer = echo.post(b"\xff")
    assert answer.status == 400
    assert "utf-8" in answer.json()["message"]


def test_unknown_paths_are_not_found(echo: Asked) -> None:
    assert urllib3.request("GET", f"{echo.url}/models", retries=False).status == 404
    assert urllib3.request("POST", f"{echo.url}/predict", body=b"", retries=False).status == 404


Write = Callable[[str], Path]


def test_the_context_is_passed_to_functions_with_one_argument_more(script: Write) -> None:
    folder = script(
        """
        import json

        def model_fn(model_dir, context):
            return context.system_properties

        def input_fn(body, content_type, context):
            return context.get_request_header(0, "X-Mine")

        def predict_fn(data, model, context):
            context.set_response_header(0, "x-answer", "yes")
            return [data, model]

        def output_fn(prediction, accept, context):
            return json.dumps([*prediction, context.model_name]).encode()
        """
    )
    with serving(folder) as asked:
        answer = asked.post(X_Mine="1")
    header, properties, name = answer.json()
    assert (header, name) == ("1", "model")
    assert answer.headers["x-answer"] == "yes"
    assert properties == {
        "model_dir": "/opt/ml/model",
        "gpu_id": None,
        "batch_size": 1,
        "server_name": "MMS",
        "server_version": "1.1.11",
    }


STEPS = """
    import json, os, sys, time

    def model_fn(model_dir):
        return None

    def input_fn(body, content_type):
        return json.loads(body)

    def predict_fn(data, model, context):
        %s

    def output_fn(prediction, accept):
        return prediction if isinstance(prediction, bytes) else json.dumps(prediction)
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('raise ValueError("no such scheduler")', "no such scheduler"),
        ("raise MemoryError('CUDA out of memory')", "CUDA out of memory"),
        ("return data['missing']", "'missing'"),
    ],
)
def test_every_exception_is_a_400_of_the_servers_shape(
    script: Write, line: str, message: str
) -> None:
    with serving(script(STEPS % line)) as asked:
        answer = asked.post()
    assert answer.status == 400
    assert answer.json() == {"code": 400, "type": "InternalServerException", "message": message}
    assert answer.headers["Content-Type"] == "application/json"


def test_an_errors_json_is_written_as_the_java_server_writes_it(script: Write) -> None:
    with serving(script(STEPS % "raise ValueError(\"<a href='x'> & caf\u00e9\")")) as asked:
        answer = asked.post()
    assert answer.data.decode("utf-8") == (
        '{\n  "code": 400,\n  "type": "InternalServerException",\n  "message": '
        '"\\u003ca href\\u003d\\u0027x\\u0027\\u003e \\u0026 caf\u00e9"\n}\n'
    )


def test_a_script_can_set_its_own_status(script: Write) -> None:
    line = "context.set_response_status(422, 'Unprocessable', 0); return {'field': 'steps'}"
    with serving(script(STEPS % line)) as asked:
        answer = asked.post(Accept="image/png")
        assert (answer.status, json.loads(answer.data)) == (422, {"field": "steps"})
        # The type is Accept's even so.
        assert answer.headers["Content-Type"] == "image/png"


def test_a_content_type_in_capitals_goes_before_accept(script: Write) -> None:
    line = "context.set_response_header(0, 'Content-Type', 'application/json'); return {}"
    with serving(script(STEPS % line)) as asked:
        answer = asked.post(Accept="image/png")
    assert answer.headers.getlist("Content-Type") == ["application/json"]


def test_a_status_holds_for_one_request_only(script: Write) -> None:
    line = "data and context.set_response_status(code=422, phrase='', idx=0); return data"
    with serving(script(STEPS % line)) as asked:
        assert [asked.post(b"[1]").status, asked.post(b"[]").status] == [422, 200]


def test_bytes_pass_untouched(script: Write) -> None:
    with serving(script(STEPS % r"return b'\x89PNG\r\n\xff'")) as asked:
        assert asked.post(Accept="image/png").data == b"\x89PNG\r\n\xff"


def test_a_wrong_number_of_arguments_is_refused(script: Write) -> None:
    folder = script(ECHO.replace("def predict_fn(data, model, context):", "def predict_fn(data):"))
    with serving(folder) as asked:
        answer = asked.post()
    assert answer.status == 400
    assert answer.json()["message"] == (
        "predict_fn definition takes 2 or 3 arguments but 1 were given."
    )


def test_transform_fn_stands_alone(script: Write) -> None:
    alone = """
        def model_fn(model_dir):
            return "model"

        def transform_fn(model, body, content_type, accept):
            return f"{model} {body} {content_type} {accept}"
    """
    with serving(script(alone)) as asked:
        answer = asked.post(Accept="text/plain")
        assert answer.data == b"model {} application/json text/plain"
    with serving(script(ECHO + "\n    def transform_fn(m, b, c, a):\n        return b")) as asked:
        assert "Cannot use transform_fn" in asked.post().json()["message"]


def test_an_empty_sagemaker_program_hides_the_script(script: Write) -> None:
    with serving(script(ECHO), SAGEMAKER_PROGRAM="") as asked:
        answer = asked.post()
    assert answer.status == 400
    assert "HF_TASK" in answer.json()["message"]


def test_another_program_can_be_named(script: Write) -> None:
    folder = script("raise RuntimeError('the wrong one')")
    (folder / "other.py").write_text(textwrap.dedent(ECHO), "utf-8")
    with serving(folder, SAGEMAKER_PROGRAM="other.py") as asked:
        assert asked.post().status == 200


def test_the_script_gets_the_containers_variables_and_nothing_of_this_repository(
    script: Write,
) -> None:
    line = "return [os.environ['EASEL_TEST'], os.getcwd() in sys.path, '' in sys.path]"
    with serving(script(STEPS % line), EASEL_TEST="here") as asked:
        assert asked.post().json() == ["here", False, False]


def test_ping_lies_while_the_model_loads_and_when_it_cannot(script: Write, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waits = f"""
        import os, time

        def model_fn(model_dir):
            while not os.path.exists({str(gate)!r}):
                time.sleep(0.01)

        def input_fn(body, content_type): return body
        def predict_fn(data, model): return data
        def output_fn(prediction, accept): return prediction
    """
    with serving(script(waits)) as asked, ThreadPoolExecutor() as pool:
        first = pool.submit(asked.post)
        assert asked.ping() == 200
        assert not first.done()
        gate.touch()
        assert first.result(60).status == 200
    with serving(script("raise ImportError('no torch')")) as asked:
        assert asked.ping() == 200
        assert asked.post().json()["message"] == "no torch"
        assert asked.ping() == 200


def test_a_model_that_failed_to_load_is_tried_again_with_each_request(
    script: Write, tmp_path: Path
) -> None:
    there = tmp_path / "weights"
    folder = script(ECHO.replace("return model_dir", f"return open({str(there)!r}).read()"))
    with serving(folder) as asked:
        assert "No such file" in asked.post().json()["message"]
        there.write_text("weights")
        assert asked.post().json()["model"] == "weights"


def test_a_dead_worker_is_a_500_and_the_next_request_waits_for_the_reload(
    script: Write,
) -> None:
    line = "return os._exit(9) if data else os.getpid()"
    with serving(script(STEPS % line)) as asked:
        before = asked.post(b"[]").json()
        died = asked.post(b"[1]")
        assert (died.status, died.json()["message"]) == (500, "Worker died.")
        assert asked.ping() == 200
        after = asked.post(b"[]")
    assert after.status == 200
    assert after.json() != before


def test_one_worker_is_strictly_serial(script: Write) -> None:
    line = "start = time.monotonic(); time.sleep(0.05); return [start, time.monotonic()]"
    with serving(script(STEPS % line)) as asked, ThreadPoolExecutor(6) as pool:
        spans = sorted(pool.map(lambda _: asked.post().json(), range(6)))
    assert all(one[1] <= next_one[0] for one, next_one in itertools.pairwise(spans))


def test_a_full_queue_is_a_503(script: Write, tmp_path: Path) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    line = f"open({str(begun)!r}, 'w').close()"
    line += f"; [time.sleep(0.01) for _ in iter(lambda: os.path.exists({str(gate)!r}), True)]"
    folder = script(STEPS % f"{line}; return 1")
    with serving(folder, MMS_JOB_QUEUE_SIZE="3") as asked, ThreadPoolExecutor(10) as pool:
        first = pool.submit(asked.post)
        wait_until(begun.exists)
        others = [pool.submit(asked.post) for _ in range(9)]
        wait_until(lambda: sum(other.done() for other in others) == 6)
        refused = [other.result() for other in others if other.done()]
        gate.touch()
        assert sorted(other.result(60).status for other in others) == [200] * 3 + [503] * 6
        assert first.result(60).status == 200
    assert {answer.json()["type"] for answer in refused} == {"ServiceUnavailableException"}


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "never happened"
        time.sleep(0.01)


def test_a_client_that_leaves_does_not_stop_the_work(script: Write, tmp_path: Path) -> None:
    done = tmp_path / "done"
    line = f"time.sleep(0.3); open({str(done)!r}, 'w').close(); return 1"
    with serving(script(STEPS % line)) as asked:
        asked.post(b"[]")
        done.unlink()
        with pytest.raises(urllib3.exceptions.TimeoutError):
            urllib3.request(
                "POST",
                f"{asked.url}/invocations",
                body=b"[]",
                headers={"Content-Type": "application/json"},
                timeout=0.05,
                retries=False,
            )
        assert asked.post(b"[]").status == 200
        assert done.exists()


def test_a_response_above_the_limit_kills_the_worker(script: Write) -> None:
    folder = script(STEPS % "return b'x' * data")
    with serving(folder, MMS_MAX_RESPONSE_SIZE="1000") as asked:
        assert asked.post(b"1000").status == 200
        assert asked.post(b"1001").json()["message"] == "Worker died."
        assert asked.post(b"1000").status == 200


def test_the_limits_are_6553500_bytes_unless_set(script: Write) -> None:
    with serving(script(STEPS % "return b'x' * data")) as asked:
        assert asked.post(b"6553500").status == 200
        assert asked.post(b"6553501").status == 500
        assert asked.post(b" " * 6_553_501).status == 413


def test_a_request_above_the_limit_is_refused(script: Write) -> None:
    with serving(script(ECHO), MMS_MAX_REQUEST_SIZE="10") as asked:
        assert asked.post(b"1" * 10).status == 200
        assert asked.post(b"1" * 11).status == 413


def test_a_worker_that_takes_too_long_is_killed(script: Write) -> None:
    line = "time.sleep(data); return os.getpid()"
    with serving(script(STEPS % line), SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS="2") as asked:
        before = asked.post(b"0").json()
        assert asked.post(b"60").json()["message"] == "Worker died."
        assert asked.post(b"0").json() != before


def test_the_other_timeout_is_in_minutes() -> None:
    server = ModelServer(Path(), Path(), {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "2"})
    assert server.answer_seconds == 120
    assert server.load_seconds is None


def test_a_stopped_server_leaves_no_process(script: Write) -> None:
    with serving(script(STEPS % "return os.getpid()")) as asked:
        pid: Any = asked.post().json()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
