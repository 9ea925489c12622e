"""InvokeEndpoint: one request to the model server and back, within SageMaker's limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from werkzeug.wrappers import Request, Response

from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.containers import ContainerResponse, Containers, NoResponse
from endpoint.emulator.sagemaker.control_plane import Endpoint
from endpoint.emulator.sagemaker.errors import (
    TIMED_OUT,
    ModelError,
    PayloadTooLarge,
    ValidationError,
)
from endpoint.emulator.sagemaker.faults import Faults
from endpoint.emulator.sagemaker.request_log import Entry

# "A customer's model containers must respond to requests within 60 seconds" (API reference of
# InvokeEndpoint).
ANSWER_SECONDS = 60.0
# 25 MB in AWS's documentation since 2025; still 6,291,456 bytes in botocore's model.
LONGEST_BODY = 25 * 1024 * 1024

# SageMaker strips all other headers of a request and of a response.
PASSED_ON = (
    "Content-Type",
    "Accept",
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-Inference-Id",
)
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@dataclass
class Models:
    """Reaches the model servers, through the faults around their containers."""

    containers: Containers
    faults: Faults
    clock: Clock = field(default_factory=Clock)

    def ask(
        self,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        body: bytes,
        seconds: float,
        entry: Entry,
    ) -> ContainerResponse:
        """Return what the endpoint's container answers within `seconds` of the clock.

        Raises:
            ModelError: when the response is not a 2xx, comes too late, or does not come.
        """

        def ask(left: float) -> ContainerResponse:
            return self.containers.ask(endpoint, headers, body, self.clock.real(left))

        entry.runs += 1
        try:
            answer = self.faults.in_container(endpoint.name, self.clock, seconds, ask)
        except NoResponse as error:
            raise _model_error(endpoint, error) from error
        if not 200 <= answer.status < 300:
            text = answer.body.decode("utf-8", "replace")
            raise ModelError(endpoint.name, endpoint.region, ACCOUNT, answer.status, text)
        return answer


def _model_error(endpoint: Endpoint, error: NoResponse) -> ModelError:
    # What SageMaker returns for a container that is down, between a crash and its restart, is not
    # documented; the emulator takes a 503 without a body.
    status, message = (0, TIMED_OUT) if error.late else (503, "")
    return ModelError(endpoint.name, endpoint.region, ACCOUNT, status, message)


def invoke(models: Models, endpoint: Endpoint, request: Request, entry: Entry) -> Response:
    """Answer one InvokeEndpoint.

    Raises:
        RuntimeRefusal: in all its kinds; the caller turns it into a response.
        CutOff: when a fault ends the connection.
    """
    if endpoint.asynchronous:
        # AWS documents the refusal, but not its wording.
        raise ValidationError(
            f"Endpoint {endpoint.name} of account {ACCOUNT} is configured for asynchronous "
            "inference. Use InvokeEndpointAsync."
        )
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    answer = models.ask(endpoint, headers, request.get_data(), ANSWER_SECONDS, entry)
    response = Response(answer.body, 200)
    response.headers["Content-Type"] = answer.headers.get("content-type", "")
    # Spelled as in botocore's model of the service.
    response.headers["x-Amzn-Invoked-Production-Variant"] = endpoint.variant
    attributes = answer.headers.get(CUSTOM_ATTRIBUTES.lower())
    if attributes is not None:
        response.headers[CUSTOM_ATTRIBUTES] = attributes
    parts = models.faults.on_way_back(endpoint.name, models.clock, answer.body)
    if parts is not None:
        response.response = parts
        response.headers["Content-Length"] = str(len(answer.body))
    return response


def check_size(body: bytes, longest: int) -> None:
    """Raise PayloadTooLarge for a body above `longest` bytes."""
    if len(body) > longest:
        raise PayloadTooLarge(f"HTTP content length exceeded {longest} bytes.")
