from __future__ import annotations

import socket
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from endpoint.emulator.client import deaf_address
from endpoint.emulator.process.clients import FAKE_CREDENTIALS
from endpoint.emulator.sagemaker.faults import Fault, Faults
from tests.endpoint.emulator.doubles import PNG, REGION, invoke


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("throttled", 400, "ThrottlingException"),
        ("denied", 403, "AccessDeniedException"),
        ("unavailable", 503, "ServiceUnavailable"),
        ("failed", 500, "InternalFailure"),
        ("dependency", 530, "InternalDependencyException"),
        ("cold", 429, "ModelNotReadyException"),
        ("too-large", 413, "413"),
    ],
)
def test_the_service_refuses_at_its_door(runtime, endpoint, switches, kind, status, code):
    with switches.fault(endpoint, kind), pytest.raises(ClientError) as caught:
        invoke(runtime, endpoint)
    error = caught.value.response
    assert error["Error"]["Code"] == code
    assert error["Error"]["Message"]
    assert error["ResponseMetadata"]["HTTPStatusCode"] == status
    assert switches.runs(endpoint) == 0
    assert [entry["status"] for entry in switches.requests(endpoint)] == [status]


def test_a_fault_can_apply_to_the_next_requests_only(runtime, endpoint, switches):
    switches.set_faults(endpoint, Fault("throttled", times=2))
    for _ in range(2):
        with pytest.raises(ClientError, match="Rate exceeded"):
            invoke(runtime, endpoint)
    assert invoke(runtime, endpoint)["Body"].read() == PNG
    assert switches.faults(endpoint) == []


def test_faults_are_used_one_after_another(runtime, endpoint, switches):
    switches.set_faults(endpoint, Fault("throttled", times=1), Fault("denied", times=1))
    codes = []
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            invoke(runtime, endpoint)
        codes.append(caught.value.response["Error"]["Code"])
    assert codes == ["ThrottlingException", "AccessDeniedException"]


def test_a_failing_container_returns_the_chosen_status_and_body(runtime, endpoint, switches):
    switches.set_faults(endpoint, Fault("failing", status=507, body="Out of resources"))
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        invoke(runtime, endpoint)
    assert caught.value.response["OriginalStatusCode"] == 507
    assert caught.value.response["OriginalMessage"] == "Out of resources"


def test_a_slow_container_still_answers(runtime, endpoint, switches):
    switches.set_clock(speed=1000)
    switches.set_faults(endpoint, Fault("slow", seconds=30))
    assert invoke(runtime, endpoint)["Body"].read() == PNG


def test_a_container_slow_by_a_minute_times_out(runtime, endpoint, switches):
    switches.set_clock(speed=1000)
    switches.set_faults(endpoint, Fault("slow", seconds=60))
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        invoke(runtime, endpoint)
    assert caught.value.response["OriginalStatusCode"] == 0
    assert switches.runs(endpoint) == 1


@pytest.mark.parametrize(
    ("rubbish", "content_type", "body"),
    [
        ("html", "text/html", b"<html><body><h1>It works!</h1></body></html>"),
        ("truncated", "image/png", PNG[: len(PNG) // 2]),
        ("empty", "image/png", b""),
        ("mislabelled", "text/plain", PNG),
    ],
)
def test_rubbish_comes_with_status_200(
    runtime,
    endpoint,
    switches,
    rubbish,
    content_type,
    body,
):
    switches.set_faults(endpoint, Fault("rubbish", rubbish=rubbish))
    answer = invoke(runtime, endpoint)
    assert answer["ContentType"] == content_type
    assert answer["Body"].read() == body


def test_a_trickle_is_complete_in_the_end(runtime, endpoint, switches):
    switches.set_clock(speed=100)
    switches.set_faults(endpoint, Fault("trickle", seconds=10))
    assert invoke(runtime, endpoint)["Body"].read() == PNG


def test_a_connection_can_end_before_the_headers(runtime, endpoint, switches):
    with switches.fault(endpoint, "cut"), pytest.raises(ConnectionClosedError):
        invoke(runtime, endpoint)
    assert [entry["status"] for entry in switches.requests(endpoint)] == [0]


def test_a_connection_can_end_in_the_middle_of_the_body(runtime, endpoint, switches):
    switches.set_faults(endpoint, Fault("cut-body"))
    answer = invoke(runtime, endpoint)
    with pytest.raises(ResponseStreamingError):
        answer["Body"].read()


def impatient(url):
    return boto3.session.Session(**FAKE_CREDENTIALS).client(
        "sagemaker-runtime",
        region_name=REGION,
        endpoint_url=url,
        config=Config(connect_timeout=0.3, read_timeout=0.3, retries={"total_max_attempts": 1}),
    )


def test_a_silent_service_accepts_the_request_and_never_responds(aws, endpoint, switches):
    switches.set_faults(endpoint, Fault("silent", seconds=3))
    with pytest.raises(ReadTimeoutError):
        invoke(impatient(aws.url), endpoint)
    assert switches.runs(endpoint) == 0


def test_a_deaf_address_never_accepts_a_connection(endpoint):
    with deaf_address() as url, pytest.raises((ConnectTimeoutError, EndpointConnectionError)):
        invoke(impatient(url), endpoint)


def test_an_unknown_fault_is_refused(switches):
    with pytest.raises(ValueError, match="no such fault"):
        Fault("haunted")
    with pytest.raises(ValueError, match="haunted"):
        switches._ask("PUT", "faults/some", {"kind": "slow", "haunted": True})


def test_an_unknown_switch_is_refused(switches):
    with pytest.raises(ValueError, match="no such switch"):
        switches._ask("PUT", "weather", {})


def test_a_fault_at_one_point_is_not_consumed_at_another():
    faults = Faults()
    faults.switch("sd", [Fault("slow", times=1)])
    assert faults.take("sd", ("throttled",)) is None
    assert faults.take("sd", ("slow",)) == Fault("slow", times=1)
    assert faults.take("sd", ("slow",)) is None


def test_other_endpoints_stay_healthy(runtime, endpoint, switches):
    with switches.fault("another", "throttled"):
        assert invoke(runtime, endpoint)["Body"].read() == PNG


def test_a_cut_leaves_the_server_able_to_answer(aws, runtime, endpoint, switches):
    for kind in ("cut", "cut-body"):
        with switches.fault(endpoint, kind, times=1):
            port = int(aws.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(
                    f"POST /endpoints/{endpoint}/invocations HTTP/1.1\r\nHost: localhost\r\n"
                    "Authorization: Credential=a/20260101/us-east-1/sagemaker/aws4_request\r\n"
                    "Content-Length: 2\r\n\r\n{}".encode()
                )
                raw.settimeout(10)
                while raw.recv(65536):
                    time.sleep(0)
    assert invoke(runtime, endpoint)["Body"].read() == PNG
