from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3

from endpoint.emulator.container.model_server import ModelServer
from tests.endpoint.emulator.container.doubles import ECHO, STEPS, serving
from tests.endpoint.emulator.doubles import wait_until


def test_unknown_paths_are_not_found(echo):
    assert urllib3.request("GET", f"{echo.url}/models", retries=False).status == 404
    assert urllib3.request("POST", f"{echo.url}/predict", body=b"", retries=False).status == 404


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_the_path_alone_decides_as_on_the_real_server(echo, method):
    ping = urllib3.request(method, f"{echo.url}/ping?x=1", retries=False)
    assert ping.json() == {"status": "Healthy"}
    answer = urllib3.request(method, f"{echo.url}/invocations?x=1", retries=False)
    assert answer.json()["input"] == ["bytearray", None, 0]


def test_ping_is_200_while_the_model_loads_and_when_it_cannot(script, tmp_path):
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
    with serving(script(waits)) as served, ThreadPoolExecutor() as pool:
        first = pool.submit(served.post)
        assert served.ping() == 200
        assert not first.done()
        gate.touch()
        assert first.result(60).status == 200
    with serving(script("raise ImportError('no torch')")) as served:
        assert served.ping() == 200
        assert served.post().json()["message"] == "no torch"
        assert served.ping() == 200


def test_a_model_that_failed_to_load_is_loaded_again_with_each_request(script, tmp_path):
    there = tmp_path / "weights"
    folder = script(ECHO.replace("return model_dir", f"return open({str(there)!r}).read()"))
    with serving(folder) as served:
        assert "No such file" in served.post().json()["message"]
        there.write_text("weights")
        assert served.post().json()["model"] == "weights"


def test_a_dead_worker_is_a_500_and_the_next_request_waits_for_the_reload(
    script,
):
    line = "return os._exit(9) if data else os.getpid()"
    with serving(script(STEPS % line)) as served:
        before = served.post(b"[]").json()
        died = served.post(b"[1]")
        assert (died.status, died.json()["message"]) == (500, "Worker died.")
        assert served.ping() == 200
        after = served.post(b"[]")
    assert after.status == 200
    assert after.json() != before


def test_one_worker_is_strictly_serial(script):
    line = "start = time.monotonic(); time.sleep(0.05); return [start, time.monotonic()]"
    with serving(script(STEPS % line)) as served, ThreadPoolExecutor(6) as pool:
        spans = sorted(pool.map(lambda _: served.post().json(), range(6)))
    assert all(one[1] <= next_one[0] for one, next_one in itertools.pairwise(spans))


def test_a_full_queue_is_a_503(script, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    line = f"open({str(begun)!r}, 'w').close()"
    line += f"; [time.sleep(0.01) for _ in iter(lambda: os.path.exists({str(gate)!r}), True)]"
    folder = script(STEPS % f"{line}; return 1")
    with serving(folder, MMS_JOB_QUEUE_SIZE="3") as served, ThreadPoolExecutor(10) as pool:
        first = pool.submit(served.post)
        wait_until(begun.exists)
        others = [pool.submit(served.post) for _ in range(9)]
        wait_until(lambda: sum(other.done() for other in others) == 6)
        refused = [other.result() for other in others if other.done()]
        gate.touch()
        assert sorted(other.result(60).status for other in others) == [200] * 3 + [503] * 6
        assert first.result(60).status == 200
    assert {answer.json()["type"] for answer in refused} == {"ServiceUnavailableException"}


def test_a_client_that_disconnects_does_not_stop_the_work(script, tmp_path):
    done = tmp_path / "done"
    line = f"time.sleep(0.3); open({str(done)!r}, 'w').close(); return 1"
    with serving(script(STEPS % line)) as served:
        served.post(b"[]")
        done.unlink()
        with pytest.raises(urllib3.exceptions.TimeoutError):
            urllib3.request(
                "POST",
                f"{served.url}/invocations",
                body=b"[]",
                headers={"Content-Type": "application/json"},
                timeout=0.05,
                retries=False,
            )
        assert served.post(b"[]").status == 200
        assert done.exists()


def test_a_response_above_the_limit_kills_the_worker(script):
    folder = script(STEPS % "return b'x' * data")
    with serving(folder, MMS_MAX_RESPONSE_SIZE="1000") as served:
        assert served.post(b"1000").status == 200
        assert served.post(b"1001").json()["message"] == "Worker died."
        assert served.post(b"1000").status == 200


def test_the_limits_are_6553500_bytes_unless_set(script):
    with serving(script(STEPS % "return b'x' * data")) as served:
        assert served.post(b"6553500").status == 200
        assert served.post(b"6553501").status == 500
        assert served.post(b" " * 6_553_501).status == 413


def test_a_request_above_the_limit_is_refused(script):
    with serving(script(ECHO), MMS_MAX_REQUEST_SIZE="10") as served:
        assert served.post(b"1" * 10).status == 200
        assert served.post(b"1" * 11).status == 413


def test_a_worker_that_takes_too_long_is_killed(script):
    line = "time.sleep(data); return os.getpid()"
    with serving(script(STEPS % line), SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS="2") as served:
        before = served.post(b"0").json()
        assert served.post(b"60").json()["message"] == "Worker died."
        assert served.post(b"0").json() != before


def test_the_other_timeout_is_in_minutes():
    server = ModelServer(Path(), Path(), {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "2"})
    assert server.answer_seconds == 120
    assert server.load_seconds is None


def test_a_stopped_server_leaves_no_process(script):
    with serving(script(STEPS % "return os.getpid()")) as served:
        pid: Any = served.post().json()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
