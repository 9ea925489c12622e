from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.async_queue import AsyncQueue
from endpoint.emulator.sagemaker.async_requests import AsyncRequest, read
from endpoint.emulator.sagemaker.control_plane import find_endpoint
from endpoint.emulator.sagemaker.faults import Fault
from endpoint.emulator.sagemaker.request_log import Entry
from tests.endpoint.emulator.conftest import BUCKET, PNG, REGION, Container, create_endpoint


def submit(runtime: Any, endpoint: str, **more: Any) -> Any:
    given = {"Body": b'{"prompt": "a cat"}'} if "InputLocation" not in more else {}
    return runtime.invoke_endpoint_async(
        EndpointName=endpoint,
        **{"ContentType": "application/json", "Accept": "image/png", **given, **more},
    )


def key(location: str) -> str:
    return location.removeprefix(f"s3://{BUCKET}/")


def wait_for(s3: Any, location: str) -> Any:
    return eventually(lambda: s3.get_object(Bucket=BUCKET, Key=key(location)))


def eventually(attempt: Callable[[], Any]) -> Any:
    """Ask until there is no error from AWS; give up after 20 s."""
    until = time.monotonic() + 60
    while True:
        try:
            return attempt()
        except ClientError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "never happened"
        time.sleep(0.02)


def exists(s3: Any, location: str) -> bool:
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=key(location))
    return bool(listed.get("Contents"))


class Gate:
    """A container that answers when it may, and remembers the order of its requests."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.bodies: list[bytes] = []

    def __call__(self, body: bytes) -> tuple[int, bytes]:
        self.bodies.append(body)
        self.open.wait(60)
        return 200, PNG


def test_the_output_holds_exactly_the_containers_bytes(
    runtime: Any, s3: Any, async_endpoint: str, container: Container
) -> None:
    answer = submit(runtime, async_endpoint, CustomAttributes="a=1", InferenceId="mine")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "mine"
    assert answer["OutputLocation"].startswith(f"s3://{BUCKET}/out/")
    assert answer["FailureLocation"].startswith(f"s3://{BUCKET}/failed/")
    stored = wait_for(s3, answer["OutputLocation"])
    assert stored["Body"].read() == PNG
    assert stored["ContentType"] == "image/png"
    headers, body = container.got[0]
    assert body == b'{"prompt": "a cat"}'
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == "a=1"
    assert headers["X-Amzn-SageMaker-Inference-Id"] == "mine"
    assert not exists(s3, answer["FailureLocation"])


def test_an_input_in_s3_is_read(
    runtime: Any, s3: Any, async_endpoint: str, container: Container
) -> None:
    s3.put_object(Bucket=BUCKET, Key="in/request.json", Body=b"from S3")
    answer = submit(runtime, async_endpoint, InputLocation=f"s3://{BUCKET}/in/request.json")
    wait_for(s3, answer["OutputLocation"])
    assert container.got[0][1] == b"from S3"


def test_an_input_that_is_not_there_fails_later(
    runtime: Any, s3: Any, async_endpoint: str, container: Container
) -> None:
    answer = submit(runtime, async_endpoint, InputLocation=f"s3://{BUCKET}/in/nothing")
    failure = wait_for(s3, answer["FailureLocation"])["Body"].read()
    assert b"GetObject" in failure
    assert container.got == []


def test_extension_and_filename_are_honoured(runtime: Any, s3: Any, async_endpoint: str) -> None:
    answer = submit(
        runtime, async_endpoint, S3OutputPathExtension="jobs/17", Filename="picture.png"
    )
    assert answer["OutputLocation"] == f"s3://{BUCKET}/out/jobs/17/picture.png"
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_a_failure_goes_to_the_failure_path_alone(
    runtime: Any, s3: Any, async_endpoint: str, container: Container
) -> None:
    container.behave = lambda _: (500, b"Worker died.")
    answer = submit(runtime, async_endpoint)
    assert b"Worker died." in wait_for(s3, answer["FailureLocation"])["Body"].read()
    assert not exists(s3, answer["OutputLocation"])


def test_faults_in_the_container_hold_for_the_queue_too(
    runtime: Any, s3: Any, async_endpoint: str, switches: EmulatorClient
) -> None:
    switches.set_faults(async_endpoint, Fault("failing", status=507, body="Out of resources"))
    answer = submit(runtime, async_endpoint)
    assert b"(507)" in wait_for(s3, answer["FailureLocation"])["Body"].read()


def test_the_service_refuses_at_its_door(
    runtime: Any, async_endpoint: str, switches: EmulatorClient
) -> None:
    with (
        switches.fault(async_endpoint, "throttled"),
        pytest.raises(ClientError, match="ThrottlingException"),
    ):
        submit(runtime, async_endpoint)
    assert switches.waiting(async_endpoint) == 0


def test_requests_are_worked_off_one_by_one_in_their_order(
    runtime: Any, s3: Any, async_endpoint: str, container: Container, switches: EmulatorClient
) -> None:
    gate = Gate()
    container.behave = gate
    answers = [submit(runtime, async_endpoint, Body=str(number).encode()) for number in range(5)]
    wait_until(lambda: gate.bodies == [b"0"] and switches.waiting(async_endpoint) == 4)
    gate.open.set()
    for answer in answers:
        wait_for(s3, answer["OutputLocation"])
    assert gate.bodies == [b"0", b"1", b"2", b"3", b"4"]


def test_the_next_request_does_not_wait_for_the_last_one_s_answer_to_be_stored(
    async_endpoint: str,
) -> None:
    begun: list[str] = []
    stored = threading.Event()

    def work(request: AsyncRequest) -> Callable[[], None]:
        begun.append(request.inference_id)
        return lambda: stored.wait(60) and None

    queue = AsyncQueue(Clock(), work, expire=work, held=lambda _: False)
    queue.start()
    for name in ("first", "second"):
        queue.put(queued(async_endpoint, name))
    wait_until(lambda: begun == ["first", "second"])
    stored.set()
    queue.close()


def queued(endpoint: str, name: str) -> AsyncRequest:
    present = find_endpoint(endpoint, REGION)
    assert present is not None
    environ = EnvironBuilder(
        data=b"{}", headers={"X-Amzn-SageMaker-Inference-Id": name}
    ).get_environ()
    entry = Entry.of("InvokeEndpointAsync", endpoint, {}, b"{}")
    return read(present, Request(environ), 0.0, entry)


def test_two_instances_work_on_two_requests(
    clients: Clients,
    runtime: Any,
    async_endpoint: str,
    container: Container,
    switches: EmulatorClient,
) -> None:
    gate = Gate()
    container.behave = gate
    scale(clients, async_endpoint, 2)
    for _ in range(3):
        submit(runtime, async_endpoint)
    wait_until(lambda: len(gate.bodies) == 2 and switches.waiting(async_endpoint) == 1)
    gate.open.set()
    wait_until(lambda: len(gate.bodies) == 3)


def scale(clients: Clients, endpoint: str, instances: int) -> None:
    clients.get("sagemaker", REGION).update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[
            {"VariantName": "AllTraffic", "DesiredInstanceCount": instances}
        ],
    )


def test_at_zero_instances_requests_wait_for_the_first(
    clients: Clients,
    runtime: Any,
    s3: Any,
    async_endpoint: str,
    container: Container,
    switches: EmulatorClient,
) -> None:
    scale(clients, async_endpoint, 0)
    answer = submit(runtime, async_endpoint)
    time.sleep(0.3)
    assert switches.waiting(async_endpoint) == 1
    assert container.got == []
    scale(clients, async_endpoint, 1)
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_a_cold_endpoint_keeps_its_queue_until_it_is_warm(
    runtime: Any, s3: Any, async_endpoint: str, switches: EmulatorClient
) -> None:
    with switches.fault(async_endpoint, "cold"):
        answer = submit(runtime, async_endpoint)
        time.sleep(0.3)
        assert switches.waiting(async_endpoint) == 1
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_a_request_expires_in_the_queue(
    clients: Clients,
    runtime: Any,
    s3: Any,
    async_endpoint: str,
    container: Container,
    switches: EmulatorClient,
) -> None:
    scale(clients, async_endpoint, 0)
    answer = submit(runtime, async_endpoint, RequestTTLSeconds=60)
    later = submit(runtime, async_endpoint, RequestTTLSeconds=3600)
    switches.set_clock(skip=61)
    assert b"expired after 60 seconds" in wait_for(s3, answer["FailureLocation"])["Body"].read()
    assert switches.waiting(async_endpoint) == 1
    assert not exists(s3, later["FailureLocation"])
    assert container.got == []


def test_an_invocation_that_takes_too_long_fails(
    runtime: Any, s3: Any, async_endpoint: str, switches: EmulatorClient
) -> None:
    switches.set_clock(speed=1000)
    switches.set_faults(async_endpoint, Fault("slow", seconds=30))
    answer = submit(runtime, async_endpoint, InvocationTimeoutSeconds=20)
    assert b"timed out" in wait_for(s3, answer["FailureLocation"])["Body"].read()


def test_an_asynchronous_answer_may_take_longer_than_a_minute(
    runtime: Any, s3: Any, async_endpoint: str, switches: EmulatorClient
) -> None:
    switches.set_clock(speed=10_000)
    switches.set_faults(async_endpoint, Fault("slow", seconds=600))
    answer = submit(runtime, async_endpoint)
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_what_is_queued_or_under_way_is_lost_with_the_endpoint(
    clients: Clients,
    runtime: Any,
    s3: Any,
    async_endpoint: str,
    container: Container,
    switches: EmulatorClient,
) -> None:
    gate = Gate()
    container.behave = gate
    answers = [submit(runtime, async_endpoint) for _ in range(2)]
    wait_until(lambda: len(gate.bodies) == 1)
    sagemaker = clients.get("sagemaker", REGION)
    sagemaker.delete_endpoint(EndpointName=async_endpoint)
    # The same name again is another endpoint.
    sagemaker.create_endpoint(EndpointName=async_endpoint, EndpointConfigName=async_endpoint)
    wait_until(lambda: switches.waiting(async_endpoint) == 0)
    gate.open.set()
    last = submit(runtime, async_endpoint)
    wait_for(s3, last["OutputLocation"])
    assert len(gate.bodies) == 2
    for answer in answers:
        assert not exists(s3, answer["OutputLocation"])
        assert not exists(s3, answer["FailureLocation"])


def test_a_real_time_endpoint_refuses_asynchronous_invocations(runtime: Any, endpoint: str) -> None:
    with pytest.raises(runtime.exceptions.ValidationError, match="not configured"):
        submit(runtime, endpoint)


def test_an_endpoint_that_does_not_exist_is_a_validation_error(runtime: Any) -> None:
    with pytest.raises(ClientError, match="Endpoint nowhere of account 123456789012 not found"):
        submit(runtime, "nowhere")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"InputLocation": f"s3://{BUCKET}/in", "Body": b"x"}, "exactly one"),
        ({"Body": b""}, "exactly one"),
        ({"Body": b"x" * 128_001}, "128000"),
        ({"InputLocation": "file:///etc/passwd"}, "Invalid InputLocation"),
        ({"RequestTTLSeconds": 21_601}, "between 60 and 21600"),
        ({"InvocationTimeoutSeconds": 3601}, "between 1 and 3600"),
        ({"Filename": "a.b.c"}, "Filename"),
        ({"Filename": "x" * 33}, "Filename"),
        ({"S3OutputPathExtension": "s3://elsewhere"}, "S3OutputPathExtension"),
    ],
)
def test_wrong_requests_are_refused(
    runtime: Any, async_endpoint: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(runtime.exceptions.ValidationError, match=said):
        submit(runtime, async_endpoint, **given)


def test_the_longest_inline_body_is_taken(runtime: Any, s3: Any, async_endpoint: str) -> None:
    answer = submit(runtime, async_endpoint, Body=b"x" * 128_000)
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_without_a_failure_path_there_is_no_failure_location(
    clients: Clients, runtime: Any, s3: Any, container: Container, switches: EmulatorClient
) -> None:
    name = create_endpoint(clients, {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/plain"}})
    switches.set_container(name, container.url)
    answer = submit(runtime, name)
    assert "FailureLocation" not in answer
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_topics_hear_of_success_and_failure(
    clients: Clients, runtime: Any, container: Container, switches: EmulatorClient
) -> None:
    sns, sqs = clients.get("sns", REGION), clients.get("sqs", REGION)
    topic = sns.create_topic(Name="easel-results")["TopicArn"]
    queue = sqs.create_queue(QueueName="easel-results")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["Attributes"]["QueueArn"])
    notify = {"SuccessTopic": topic, "ErrorTopic": topic}
    output = {"S3OutputPath": f"s3://{BUCKET}/told", "NotificationConfig": notify}
    name = create_endpoint(clients, {"OutputConfig": output})
    switches.set_container(name, container.url)
    done = submit(runtime, name, InferenceId="one")
    told = _next_message(sqs, queue)
    assert told["invocationStatus"] == "Completed"
    assert told["inferenceId"] == "one"
    assert told["requestParameters"]["endpointName"] == name
    assert told["responseParameters"] == {
        "contentType": "image/png",
        "outputLocation": done["OutputLocation"],
    }
    switches.set_faults(name, Fault("failing"))
    submit(runtime, name, InferenceId="two")
    told = _next_message(sqs, queue)
    assert (told["invocationStatus"], told["inferenceId"]) == ("Failed", "two")
    assert "(500)" in told["failureReason"]
    assert "responseParameters" not in told


def _next_message(sqs: Any, queue: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        received = sqs.receive_message(QueueUrl=queue).get("Messages", [])
        for message in received:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            told: dict[str, Any] = json.loads(json.loads(message["Body"])["Message"])
            return told
        time.sleep(0.05)
    raise AssertionError("no message")
