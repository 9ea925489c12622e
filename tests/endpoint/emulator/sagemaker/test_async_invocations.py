from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from endpoint.emulator.sagemaker.faults import Fault
from tests.endpoint.emulator.doubles import (
    BUCKET,
    PNG,
    REGION,
    create_endpoint,
)
from tests.endpoint.emulator.sagemaker.doubles import exists, submit, wait_for


def test_the_output_holds_exactly_the_containers_bytes(runtime, s3, async_endpoint, container):
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


def test_an_input_in_s3_is_read(runtime, s3, async_endpoint, container):
    s3.put_object(Bucket=BUCKET, Key="in/request.json", Body=b"from S3")
    answer = submit(runtime, async_endpoint, InputLocation=f"s3://{BUCKET}/in/request.json")
    wait_for(s3, answer["OutputLocation"])
    assert container.got[0][1] == b"from S3"


def test_a_missing_input_fails_later(runtime, s3, async_endpoint, container):
    answer = submit(runtime, async_endpoint, InputLocation=f"s3://{BUCKET}/in/nothing")
    failure = wait_for(s3, answer["FailureLocation"])["Body"].read()
    assert b"GetObject" in failure
    assert container.got == []


def test_a_failure_is_written_to_the_failure_path_only(runtime, s3, async_endpoint, container):
    container.behave = lambda _: (500, b"Worker died.")
    answer = submit(runtime, async_endpoint)
    assert b"Worker died." in wait_for(s3, answer["FailureLocation"])["Body"].read()
    assert not exists(s3, answer["OutputLocation"])


def test_faults_in_the_container_apply_to_the_queue_too(runtime, s3, async_endpoint, switches):
    switches.set_faults(async_endpoint, Fault("failing", status=507, body="Out of resources"))
    answer = submit(runtime, async_endpoint)
    assert b"(507)" in wait_for(s3, answer["FailureLocation"])["Body"].read()


def test_the_service_refuses_at_its_door(runtime, async_endpoint, switches):
    with (
        switches.fault(async_endpoint, "throttled"),
        pytest.raises(ClientError, match="ThrottlingException"),
    ):
        submit(runtime, async_endpoint)
    assert switches.waiting(async_endpoint) == 0


def test_an_invocation_that_takes_too_long_fails(runtime, s3, async_endpoint, switches):
    switches.set_clock(speed=1000)
    switches.set_faults(async_endpoint, Fault("slow", seconds=30))
    answer = submit(runtime, async_endpoint, InvocationTimeoutSeconds=20)
    assert b"timed out" in wait_for(s3, answer["FailureLocation"])["Body"].read()


def test_an_asynchronous_response_may_take_longer_than_a_minute(
    runtime, s3, async_endpoint, switches
):
    switches.set_clock(speed=10_000)
    switches.set_faults(async_endpoint, Fault("slow", seconds=600))
    answer = submit(runtime, async_endpoint)
    assert wait_for(s3, answer["OutputLocation"])["Body"].read() == PNG


def test_topics_are_notified_of_success_and_failure(clients, runtime, container, switches):
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
    notice = _next_message(sqs, queue)
    assert notice["invocationStatus"] == "Completed"
    assert notice["inferenceId"] == "one"
    assert notice["requestParameters"]["endpointName"] == name
    assert notice["responseParameters"] == {
        "contentType": "image/png",
        "outputLocation": done["OutputLocation"],
    }
    switches.set_faults(name, Fault("failing"))
    submit(runtime, name, InferenceId="two")
    notice = _next_message(sqs, queue)
    assert (notice["invocationStatus"], notice["inferenceId"]) == ("Failed", "two")
    assert "(500)" in notice["failureReason"]
    assert "responseParameters" not in notice


def _next_message(sqs, queue):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        received = sqs.receive_message(QueueUrl=queue).get("Messages", [])
        for message in received:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            notice: dict[str, Any] = json.loads(json.loads(message["Body"])["Message"])
            return notice
        time.sleep(0.05)
    raise AssertionError("no message")
