"""A private endpoint, through botocore's own errors.

What real HTTP does to the real client is in tests/end_to_end; here are the errors that SageMaker
and botocore can raise, one by one.
"""

import io
import json
import time

import botocore.exceptions as aws
import pytest
from PIL import Image

from chalicelib.aws.deadline import Deadline
from chalicelib.aws.sagemaker import Endpoint
from chalicelib.errors import (
    BadPicture,
    ConnectionCut,
    EndpointBusy,
    EndpointDown,
    EndpointFailed,
    EndpointForbidden,
    EndpointMissing,
    EndpointTooSlow,
    EndpointUnreachable,
    InvalidRequest,
    NeverReachedGpu,
    PictureRefused,
    PictureTooLarge,
)
from chalicelib.generation import GenerationRequest
from chalicelib.image_files import LARGEST_PICTURE
from tests.gateway.doubles import Provided, RuntimeClient, endpoint_response, model_error, refusal

REQUEST = GenerationRequest(prompt="a cat", seed=7, model="sd")


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), "teal").save(buffer, "png")
    return buffer.getvalue()


def invoke(outcome, request=REQUEST, deadline=None):
    endpoint = Endpoint(Provided(RuntimeClient(outcome)), "easel-sd")
    return endpoint.invoke(request, deadline or Deadline(float("inf")), trace="id")


def test_the_request_is_sent_as_json_and_the_picture_comes_back_as_bytes():
    client = RuntimeClient(endpoint_response(png()))
    body = Endpoint(Provided(client), "easel-sd").invoke(
        REQUEST, Deadline(float("inf")), trace="id-1"
    )

    (asked,) = client.asked
    assert body == png()
    assert json.loads(asked.pop("Body")) == REQUEST.to_dict()
    assert asked == {
        "EndpointName": "easel-sd",
        "ContentType": "application/json",
        "Accept": "image/png",
        "CustomAttributes": "id-1",
    }


def test_the_container_is_told_when_nobody_waits_any_more():
    client = RuntimeClient(endpoint_response(png()))
    before = time.time()
    deadline = Deadline(24, clock=lambda: 0)
    Endpoint(Provided(client), "easel-sd").invoke(REQUEST, deadline, trace="id-1")

    trace, _, until = client.asked[0]["CustomAttributes"].partition(";until=")
    assert trace == "id-1"
    assert before + 23.9 < float(until) < time.time() + 24.1


def test_an_abandoned_run_was_too_slow_and_may_have_cost_gpu_time():
    stopped = model_error(504, {"error": {"code": "too_slow", "message": "..."}})

    with pytest.raises(EndpointTooSlow) as raised:
        invoke(stopped)
    assert not isinstance(raised.value, NeverReachedGpu)


BUSY = [
    "ThrottlingException",
    "ServiceUnavailable",
    "ModelNotReadyException",
    "InternalDependencyException",
]
FORBIDDEN = ["AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException"]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        *((refusal(code), EndpointBusy) for code in BUSY),
        *((refusal(code), EndpointForbidden) for code in FORBIDDEN),
        (refusal("ValidationError", "Endpoint x of account 1 not found."), EndpointMissing),
        (refusal("ValidationError", "Request too large"), EndpointFailed),
        (refusal("InternalFailure"), EndpointFailed),
        (model_error(500, {"error": {"code": "generation_failed"}}), EndpointFailed),
        (model_error(400, {"code": 400, "type": "InternalServerException"}), EndpointFailed),
        (model_error(503, {"code": 503, "message": "No worker is available"}), EndpointBusy),
        (model_error(503, None), EndpointDown),
        (model_error(503, "<html>"), EndpointDown),
        (model_error(429, None), EndpointBusy),
        # 503 by containers of earlier versions.
        (model_error(503, {"error": {"code": "out_of_memory"}}), PictureTooLarge),
        (model_error(507, {"error": {"code": "out_of_memory"}}), PictureTooLarge),
        *(
            (model_error(503, {"error": {"code": code, "retry_after": 7}}), EndpointBusy)
            for code in ("busy", "starting", "stopping", "unhealthy", "adapters_unavailable")
        ),
        (model_error(500, "<html>"), EndpointFailed),
        (model_error(500, "[]"), EndpointFailed),
        (model_error(500, '{"error": "text"}'), EndpointFailed),
        (model_error(None, None), EndpointFailed),
        (aws.ReadTimeoutError(endpoint_url="u"), EndpointTooSlow),
        (aws.ConnectTimeoutError(endpoint_url="u"), EndpointUnreachable),
        (aws.EndpointConnectionError(endpoint_url="u"), EndpointUnreachable),
        (aws.ConnectionClosedError(endpoint_url="u"), ConnectionCut),
        (aws.ResponseStreamingError(error="reset"), ConnectionCut),
        (aws.NoCredentialsError(), EndpointForbidden),
        (aws.BotoCoreError(), EndpointFailed),
    ],
)
def test_each_trouble_has_its_own_error(outcome, expected):
    with pytest.raises(expected) as raised:
        invoke(outcome)

    assert type(raised.value) is expected
    assert raised.value.__cause__ is outcome


@pytest.mark.parametrize(
    ("reported", "expected"), [(7, 7), (3600, 3600), (3601, 15), (0, 15), (-1, 15), ("7", 15)]
)
def test_a_full_queue_says_itself_when_to_try_again(reported, expected):
    with pytest.raises(EndpointBusy) as raised:
        invoke(model_error(503, {"error": {"code": "busy", "retry_after": reported}}))

    assert raised.value.retry_after == expected
    assert isinstance(raised.value, NeverReachedGpu)  # the quota is refunded


def test_every_trouble_behind_the_gateway_says_when_to_try_again():
    for error in (
        EndpointBusy,
        EndpointFailed,
        EndpointForbidden,
        EndpointMissing,
        BadPicture,
        ConnectionCut,
        EndpointUnreachable,
        EndpointTooSlow,
    ):
        assert error.status in {502, 503, 504}
        assert error.retry_after > 0


def test_no_text_of_aws_reaches_the_caller():
    secret = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/easel-sd"
    for outcome in (
        refusal("AccessDeniedException", secret),
        model_error(500, secret),
        refusal("ValidationError", f"{secret} not found"),
    ):
        with pytest.raises(Exception) as raised:  # noqa: PT011 (each is one of the above)
            invoke(outcome)
        assert "123456789012" not in raised.value.message


def test_a_picture_that_the_model_refused_is_reported_to_the_caller():
    reported = {"error": {"code": "moderation_blocked", "message": "Not fit to show."}}
    with pytest.raises(PictureRefused, match="Not fit to show."):
        invoke(model_error(422, reported))


def test_a_field_that_the_model_cannot_do_is_named():
    reported = {"error": {"code": "invalid_request", "message": "width: no", "field": "width"}}
    with pytest.raises(InvalidRequest, match="width: no") as raised:
        invoke(model_error(400, reported))

    assert raised.value.field == "width"


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b'{"image": "..."}'])
def test_a_response_that_is_not_a_picture_is_not_passed_on(body):
    with pytest.raises(BadPicture):
        invoke(endpoint_response(body))


def test_a_body_that_ends_before_its_announced_length_is_a_cut_connection():
    with pytest.raises(ConnectionCut):
        invoke(endpoint_response(png()[:30], announced=len(png())))


def test_a_picture_too_large_for_lambda_is_refused_before_it_is_read():
    too_large = endpoint_response(b"", announced=LARGEST_PICTURE + 1)
    with pytest.raises(PictureTooLarge, match="format=webp"):
        invoke(too_large)
