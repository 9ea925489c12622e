"""InvokeEndpointAsync: accepts a request, and later writes its result to S3."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from werkzeug.wrappers import Request, Response

from endpoint.emulator.sagemaker import async_requests
from endpoint.emulator.sagemaker.async_queue import AsyncQueue, Rest, in_thread
from endpoint.emulator.sagemaker.async_requests import AsyncRequest
from endpoint.emulator.sagemaker.containers import ContainerResponse
from endpoint.emulator.sagemaker.control_plane import Endpoint
from endpoint.emulator.sagemaker.errors import ModelError
from endpoint.emulator.sagemaker.invocations import Models
from endpoint.emulator.sagemaker.request_log import Entry
from endpoint.emulator.sagemaker.s3_locations import Location, Rules


class ClientSource(Protocol):
    """Where boto3 clients come from: `Clients`, or a test's own."""

    def get(self, service: str, region: str) -> Any:
        """Return a client."""


class AsyncInvocations:
    """The asynchronous half of SageMaker Runtime.

    Args:
        models: reaches the containers.
        clients: of S3 and SNS, which are reached like everything else, at the emulator's address.
        run: see `AsyncQueue`.

    Attributes:
        rules: where the results of an endpoint are written.
    """

    def __init__(
        self,
        models: Models,
        clients: ClientSource,
        run: Callable[[Callable[[], None]], None] = in_thread,
    ) -> None:
        self._models, self._clients = models, clients
        self.rules = Rules()
        self.queue = AsyncQueue(
            models.clock, self._work, self._expire, models.faults.holds_queue, run
        )

    def submit(self, endpoint: Endpoint, request: Request, entry: Entry) -> Response:
        """Queue one request and answer 202; raises ValidationError."""
        rule = self.rules.of(endpoint.name)
        asked = async_requests.read(endpoint, request, self._models.clock.now(), entry, rule)
        body = json.dumps({"InferenceId": asked.inference_id})
        response = Response(body, 202, mimetype="application/json")
        response.headers["X-Amzn-SageMaker-OutputLocation"] = str(asked.output)
        if asked.failure:
            response.headers["X-Amzn-SageMaker-FailureLocation"] = str(asked.failure)
        # After the response is complete: the result may be in S3 before the client has the 202.
        self.queue.put(asked)
        return response

    def _work(self, request: AsyncRequest) -> Rest | None:
        """Ask the model server, and return what delivers its answer."""
        body = self._body(request)
        if body is None:
            return None
        try:
            answer = self._models.ask(
                request.endpoint, request.headers, body, request.timeout, request.entry
            )
        except ModelError as error:
            # Worded as in notifications that others published.
            status = error.original_status
            reason = f"ClientError: Received server error ({status}) from model."
            return partial(self._fail, request, reason, str(error))
        return partial(self._succeed, request, answer)

    def _succeed(self, request: AsyncRequest, answer: ContainerResponse) -> None:
        """Write the output and notify the success topic."""
        # The endpoint may have been deleted while its container worked.
        if self.queue.present(request) is None:
            return
        # Whether SageMaker sets the container's type on the object is not documented; here it does.
        content_type = answer.headers.get("content-type", "")
        self._write(request, request.output, answer.body, content_type)
        self._notify(
            request,
            request.config.success_topic,
            {
                "invocationStatus": "Completed",
                "responseParameters": {
                    "contentType": content_type,
                    "outputLocation": str(request.output),
                },
            },
        )

    def _body(self, request: AsyncRequest) -> bytes | None:
        if request.input is None:
            return request.body
        s3 = self._clients.get("s3", request.endpoint.region)
        place = request.input
        try:
            content: bytes = s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
        except s3.exceptions.ClientError as error:
            reason = f"ClientError: Unable to download the input from {place}."
            self._fail(request, reason, str(error))
            return None
        return content

    def _expire(self, request: AsyncRequest) -> None:
        reason = f"ClientError: The request expired after {request.ttl:.0f} seconds in the queue."
        self._fail(request, reason, reason)

    def _fail(self, request: AsyncRequest, reason: str, details: str) -> None:
        """Write the failure object and notify the error topic, where the configuration has them."""
        if self.queue.present(request) is None:
            return
        # AWS does not document the content of this object.
        if request.failure:
            self._write(request, request.failure, details.encode("utf-8"), "text/plain")
        result = {"invocationStatus": "Failed", "failureReason": reason}
        self._notify(request, request.config.error_topic, result)

    def _write(
        self, request: AsyncRequest, place: Location, body: bytes, content_type: str
    ) -> None:
        self._clients.get("s3", request.endpoint.region).put_object(
            Bucket=place.bucket, Key=place.key, Body=body, ContentType=content_type
        )

    def _notify(self, request: AsyncRequest, topic: str | None, result: dict[str, Any]) -> None:
        if topic is None:
            return
        message = {
            "awsRegion": request.endpoint.region,
            "eventTime": _now(),
            "receivedTime": _now(),
            "requestParameters": {
                "accept": request.headers.get("Accept"),
                "contentType": request.headers.get("Content-Type"),
                "endpointName": request.endpoint.name,
                "inputLocation": str(request.input) if request.input else None,
            },
            "inferenceId": request.inference_id,
            "eventVersion": "1.0",
            "eventSource": "aws:sagemaker",
            "eventName": "InferenceResult",
            **result,
        }
        sns = self._clients.get("sns", request.endpoint.region)
        sns.publish(TopicArn=topic, Message=json.dumps(message))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
