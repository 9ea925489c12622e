from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.process.clients import Clients
from tests.endpoint.emulator.doubles import PNG, REGION, create_endpoint, invoke


def test_a_picture_is_returned_byte_for_byte(runtime, endpoint):
    answer = invoke(runtime, endpoint)
    assert answer["Body"].read() == PNG
    assert answer["ContentType"] == "image/png"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ResponseMetadata"]["RequestId"]


def test_custom_attributes_and_inference_id_reach_the_container_and_are_returned(
    runtime, endpoint, container
):
    answer = invoke(runtime, endpoint, CustomAttributes="trace=1", InferenceId="abc")
    assert answer["CustomAttributes"] == "seen trace=1"
    headers, body = container.got[0]
    assert body == b"{}"
    assert headers["Content-Type"] == "application/json"
    assert headers["Accept"] == "image/png"
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == "trace=1"
    assert headers["X-Amzn-SageMaker-Inference-Id"] == "abc"


def test_the_callers_signature_never_reaches_the_container(runtime, endpoint, container):
    invoke(runtime, endpoint)
    assert not {"Authorization", "X-Amz-Date"} & set(container.got[0][0])


def test_an_endpoint_that_does_not_exist_is_a_validation_error(runtime):
    with pytest.raises(ClientError) as caught:
        invoke(runtime, "nowhere")
    error = caught.value.response
    assert error["Error"]["Code"] == "ValidationError"
    assert error["Error"]["Message"] == "Endpoint nowhere of account 123456789012 not found."
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_endpoint_of_another_region_does_not_exist(clients, endpoint):
    with pytest.raises(ClientError, match="not found"):
        invoke(clients.get("sagemaker-runtime", "eu-west-1"), endpoint)


def test_a_deleted_endpoint_does_not_exist(clients, runtime, endpoint):
    clients.get("sagemaker", REGION).delete_endpoint(EndpointName=endpoint)
    with pytest.raises(ClientError, match="not found"):
        invoke(runtime, endpoint)


def test_an_endpoint_survives_the_deletion_of_its_configuration_and_model(
    clients, runtime, endpoint
):
    sagemaker = clients.get("sagemaker", REGION)
    sagemaker.delete_endpoint_config(EndpointConfigName=endpoint)
    sagemaker.delete_model(ModelName=endpoint)
    assert invoke(runtime, endpoint)["Body"].read() == PNG


@pytest.mark.parametrize("status", [400, 413, 422, 500, 503])
def test_the_containers_own_errors_become_model_errors(runtime, endpoint, container, status):
    container.behave = lambda _: (status, b'{"message": "no such LoRA"}')
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        invoke(runtime, endpoint)
    error = caught.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert error["OriginalStatusCode"] == status
    assert error["OriginalMessage"] == '{"message": "no such LoRA"}'
    assert error["LogStreamArn"].endswith(f"log-group:/aws/sagemaker/Endpoints/{endpoint}")


def test_a_container_slower_than_sixty_seconds_times_out(runtime, endpoint, container, switches):
    def sleep(_):
        time.sleep(0.5)
        return 200, PNG

    container.behave = sleep
    switches.set_clock(speed=600)
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        invoke(runtime, endpoint)
    assert caught.value.response["OriginalStatusCode"] == 0
    assert "timed out while waiting for a response" in caught.value.response["OriginalMessage"]


def test_an_endpoint_without_a_container_returns_a_model_error(runtime, endpoint, switches):
    switches.set_container(endpoint, None)
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        invoke(runtime, endpoint)
    assert caught.value.response["OriginalStatusCode"] == 503


def test_a_stopped_container_returns_a_model_error(runtime, endpoint, switches):
    switches.set_container(endpoint, "http://127.0.0.1:1")
    with pytest.raises(runtime.exceptions.ModelError):
        invoke(runtime, endpoint)


def test_a_request_above_the_limit_is_refused_before_the_container():
    with AwsServer(longest_body=1000).serve() as server:
        clients = Clients(lambda: server.url)
        name = create_endpoint(clients)
        with pytest.raises(ClientError) as caught:
            invoke(clients.get("sagemaker-runtime", REGION), name, b"x" * 1001)
        assert caught.value.response["Error"]["Code"] == "413"
        assert EmulatorClient(server.url).runs(name) == 0


def test_an_asynchronous_endpoint_refuses_synchronous_invocations(runtime, async_endpoint):
    with pytest.raises(runtime.exceptions.ValidationError, match="asynchronous"):
        invoke(runtime, async_endpoint)


def test_the_log_shows_the_requests_and_how_often_the_model_ran(runtime, endpoint, switches):
    invoke(runtime, endpoint, b'{"prompt": "a cat"}')
    invoke(runtime, endpoint, b"\xff\xfe")
    first, second = switches.requests(endpoint)
    assert first["operation"] == "InvokeEndpoint"
    assert (first["body"], first["encoding"]) == ('{"prompt": "a cat"}', "utf-8")
    assert (second["body"], second["encoding"]) == ("//4=", "base64")
    assert (first["status"], first["runs"]) == (200, 1)
    assert first["headers"]["Accept"] == "image/png"
    switches.clear_requests(endpoint)
    assert switches.requests(endpoint) == []
