"""The server's process: /ping in each of its states, its signals, faults and ends."""

import signal
import socket
from collections import Counter

import pytest

from tests.model_package.server.served import Callers

ACCEPTABLE = {200, 503}


def test_ping_is_503_while_the_model_is_loaded(own):
    server = own(SCRIPT_LOADING="loaded").listening()
    assert server.ping() == 503
    assert server.health()["state"] == "STARTING"
    refused = server.invoke()
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["code"] == "starting"
    server.open("loaded")
    server.ready()
    assert server.ping() == 200
    assert server.end() == 0


def test_sigterm_while_the_model_is_loaded_ends_at_once(own):
    server = own(SCRIPT_LOADING="never").listening()
    assert server.end() == 0


def test_a_model_that_cannot_be_loaded_ends_the_process_with_the_reason(own):
    server = own()
    (server.folder / "broken").touch()
    assert server.process.wait(60) == 1
    assert "weights are damaged" in server.events("model_unusable")[0]["error"]
    assert "weights are damaged" in server.events("server_unhealthy")[0]["error"]


def test_a_model_of_the_hub_is_passed_to_the_script(own):
    server = own("--model", "org/name").ready()
    response = server.invoke(describe=True, variable="EASEL_MODEL_ID")
    assert response.json() == {"described": "org/name"}


def test_ping_is_200_while_the_queue_is_full_and_the_worker_computes(own):
    server = own(SCRIPT_CAPACITY="1", SCRIPT_SECONDS="20").ready()
    callers = Callers()
    for count in range(2):
        callers.call(lambda: server.invoke(wait="go"))
        server.until_counts(count, 1)
    refused = server.invoke(wait="go")
    assert (refused.status, refused.json()["error"]["code"]) == (503, "busy")
    assert refused.headers["Retry-After"] == "5"
    assert [server.ping() for _ in range(20)] == [200] * 20
    assert server.health()["state"] == "BUSY"
    server.open("go")
    assert callers.statuses() == [200, 200]


def test_a_worker_that_shows_no_progress_makes_ping_503_and_ends_the_process(own):
    server = own(EASEL_STALL_SECONDS="0.5").ready()
    callers = Callers()
    callers.call(lambda: server.invoke(wait="never"))
    assert server.process.wait(60) == 1
    assert server.events("server_unhealthy")[0]["reason"] == "Image generation shows no progress."
    assert callers.statuses() == [503]


def test_a_worker_that_dies_answers_everybody_and_ends_the_process(own):
    server = own(SCRIPT_CAPACITY="1").ready()
    callers = Callers()
    callers.call(lambda: server.invoke(wait="go", die=True))
    server.until_counts(0, 1)
    callers.call(server.invoke)
    server.until_counts(1, 1)
    server.open("go")
    assert server.process.wait(60) == 1
    assert callers.statuses() == [503, 503]
    assert "the engine is broken" in server.events("painter_died")[0]["error"]


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported late",
        "CUDA error: unspecified launch failure",
    ],
)
def test_a_poisoned_cuda_ends_the_process_with_the_reason(own, text):
    server = own(SCRIPT_CAPACITY="1").ready()
    callers = Callers()
    callers.call(lambda: server.invoke(wait="go", fail=text))
    server.until_counts(0, 1)
    callers.call(server.invoke)
    server.until_counts(1, 1)
    server.open("go")
    assert server.process.wait(60) == 1
    assert callers.statuses() == [500, 503]
    assert text.splitlines()[0] in server.events("server_unhealthy")[0]["reason"]


def test_another_failure_does_not_end_the_process(own):
    server = own().ready()
    assert server.invoke(fail="CUDA error: invalid argument").status == 500
    assert server.invoke().status == 200
    assert server.ping() == 200
    assert server.end() == 0


# SIGTERM


def test_sigterm_while_nothing_is_painted_ends_at_once(own):
    server = own().ready()
    kept = server.get("/ping")  # its connection stays open
    assert kept.status == 200
    assert server.end() == 0
    assert server.events("stopped")


def test_sigterm_lets_what_was_accepted_be_finished_and_takes_nothing_new(own):
    server = own(SCRIPT_CAPACITY="1").ready()
    callers = Callers()
    for count in range(3):
        callers.call(lambda: server.invoke(wait="go"))
        server.until_counts(count, 1)
    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: server.events("stopping"))
    refused = server.invoke()
    assert refused.json()["error"]["code"] == "stopping"
    assert int(refused.headers["Retry-After"]) > 0
    assert server.ping() == 503
    assert server.health()["state"] == "STOPPING"
    server.open("go")
    assert server.process.wait(60) == 0
    assert callers.statuses() == [200, 200, 200]


def test_sigterm_refuses_at_once_what_cannot_be_finished_in_time(own):
    server = own(SCRIPT_CAPACITY="1", SCRIPT_SECONDS="15").ready()
    callers = Callers()
    for count in range(3):
        callers.call(lambda: server.invoke(wait="go"))
        server.until_counts(count, 1)
    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: server.health()["queue"]["waiting"] == 0)
    server.open("go")
    assert server.process.wait(60) == 0
    assert callers.statuses() == [200, 503, 503]


def test_sigterm_ends_also_a_step_that_never_ends(own):
    server = own(SCRIPT_CAPACITY="1", EASEL_STOP_SECONDS="1").ready()
    callers = Callers()
    for count in range(2):
        callers.call(lambda: server.invoke(wait="never"))
        server.until_counts(count, 1)
    assert server.end() == 0
    assert callers.statuses() == [503, 503]


def test_sigterm_refuses_a_request_whose_body_is_still_on_its_way(own):
    server = own().ready()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
        connection.sendall(head)
        assert server.ping() == 200  # so that the server has read the beginning
        assert server.end() == 0
        assert connection.recv(100).startswith(b"HTTP/1.1 503")
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("phase", ["prepare", "write"])
def test_sigterm_refuses_a_request_that_is_still_prepared_or_encoded(own, phase):
    server = own(EASEL_STOP_SECONDS="0.5").ready()
    callers = Callers()
    callers.call(lambda: server.invoke(**{phase: "never"}))
    server.until((server.folder / f"{phase} began").exists)
    assert server.end() == 0
    assert callers.statuses() == [503]
    assert callers.responses[0].json()["error"]["code"] == "stopping"
    assert "Traceback" not in server.output()


def test_ctrl_c_answers_everybody_and_ends_at_once(own):
    server = own(serve=False, SCRIPT_CAPACITY="1").ready()
    callers = Callers()
    for count in range(2):
        callers.call(lambda: server.invoke(wait="never"))
        server.until_counts(count, 1)
    assert server.end(signal.SIGINT) == 130
    assert callers.statuses() == [503, 503]


# Callers


def test_200_callers_all_get_a_picture_or_an_honest_503(own):
    server = own(SCRIPT_CAPACITY="4", SCRIPT_SECONDS="0.5").ready()  # 55 s are for 110 of them
    callers = Callers()
    for count in range(200):
        callers.call(lambda count=count: server.invoke(f"picture {count}", wait="go"))
    server.until(lambda: any(server.health()["queue"].values()))
    assert [server.ping() for _ in range(10)] == [200] * 10
    server.open("go")
    statuses = callers.statuses()

    assert set(statuses) == ACCEPTABLE
    for count, response in enumerate(callers.responses):
        if response.status == 200:
            assert response.data == b"\x89PNG" + f"picture {count}".encode()
        else:
            assert int(response.headers["Retry-After"]) > 0
            assert response.json()["error"]["code"] == "busy"
    assert Counter(server.painted()) == Counter(
        f"picture {count}" for count, status in enumerate(statuses) if status == 200
    )
    assert server.ping() == 200


def test_callers_who_leave_cost_no_step(own):
    server = own(SCRIPT_CAPACITY="1").ready()
    callers = Callers()
    callers.call(lambda: server.invoke("first", wait="go"))
    server.until_counts(0, 1)
    connections = [server.connect(f"left {count}") for count in range(5)]
    server.until_counts(5, 1)
    for connection in connections:
        connection.close()
    server.until_counts(0, 1)
    server.open("go")

    assert callers.statuses() == [200]
    assert server.invoke("last").status == 200
    assert server.painted() == ["first", "last"]
    assert len(server.events("caller_left")) == 5


def test_a_caller_who_leaves_while_painted_is_stopped_at_the_next_step(own):
    server = own().ready()
    connection = server.connect("left", wait="go", steps=1000)
    server.until_counts(0, 1)
    connection.close()
    server.until(lambda: server.events("caller_left"))
    server.open("go")
    server.until_counts(0, 0)
    assert server.painted() == ["left"]


def test_a_deadline_in_the_custom_attributes_is_kept(own):
    server = own(SCRIPT_CAPACITY="1", SCRIPT_SECONDS="10").ready()
    attributes = {"X_Amzn_SageMaker_Custom_Attributes": "any text;within=9"}
    refused = server.invoke(headers=attributes)
    assert (refused.status, refused.json()["error"]["code"]) == (503, "busy")
    attributes = {"X_Amzn_SageMaker_Custom_Attributes": "any text;within=-1"}
    late = server.invoke(headers=attributes)
    assert (late.status, late.json()["error"]["code"]) == (504, "too_slow")
    assert server.painted() == []


def test_a_deadline_that_passes_in_a_step_is_answered_at_once(own):
    server = own().ready()
    attributes = {"X_Amzn_SageMaker_Custom_Attributes": "any text;within=0.3"}
    late = server.invoke(headers=attributes, wait="go", steps=1000)
    assert (late.status, late.json()["error"]["code"]) == (504, "too_slow")
    server.open("go")
    server.until_counts(0, 0)
    assert server.painted() == ["a cat"]


def test_a_request_that_does_not_begin_in_time_is_refused_before_its_deadline(own):
    server = own(SCRIPT_CAPACITY="1").ready()
    callers = Callers()
    callers.call(lambda: server.invoke(wait="go"))
    server.until_counts(0, 1)
    attributes = {"X_Amzn_SageMaker_Custom_Attributes": "any text;within=30"}
    refused = server.invoke("late", headers=attributes, seconds=29.7)
    assert (refused.status, refused.json()["error"]["code"]) == (503, "busy")
    server.open("go")
    assert callers.statuses() == [200]
    assert server.painted() == ["a cat"]


def test_a_caller_that_states_no_deadline_waits_as_long_as_sagemaker(own):
    server = own(SCRIPT_SECONDS="55.5").ready()
    assert server.invoke().status == 503
    assert server.get("/predict?prompt=x").status == 200  # a person can wait longer


def test_ctrl_c_during_the_imports_ends_without_a_traceback(own, tmp_path):
    imported = "import time; print('importing', flush=True); time.sleep(60)"
    (tmp_path / "uvicorn.py").write_text(imported)
    server = own(PYTHONPATH=str(tmp_path))
    server.until(server.output)
    assert server.end(signal.SIGINT) == -signal.SIGINT
    assert server.output() == "importing\n"


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--model", "nowhere"], {}, "--model nowhere is not a folder, nor org/name"),
        (["--code", "/nowhere"], {}, "/nowhere has no inference.py"),
        (["--port", "70000"], {}, "70000 is no port"),
        (["--host", "256.0.0.1"], {}, "cannot be used"),
        ([], {"EASEL_STALL_SECONDS": "soon"}, "EASEL_STALL_SECONDS=soon is not a positive number"),
        ([], {"EASEL_EMF": "yes"}, "EASEL_EMF=yes is neither on nor off"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_sentence(own, arguments, variables, said):
    server = own(*arguments, **variables)
    assert server.process.wait(60) == 1
    (line,) = server.output().splitlines()
    assert said in line


def test_a_port_in_use_is_said_in_one_sentence(own, server):
    second = own("--port", str(server.port))
    assert second.process.wait(60) == 1
    assert f"127.0.0.1:{server.port} cannot be used" in second.output()
