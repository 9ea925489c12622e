"""InvokeEndpoint: from the wire to the model server and back, within SageMaker's limits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from werkzeug.wrappers import Request, Response

from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker import faults as kinds
from endpoint.emulator.sagemaker.containers import ContainerResponse, Containers, NoAnswer, call
from endpoint.emulator.sagemaker.control_plane import ACCOUNT, Endpoint
from endpoint.emulator.sagemaker.errors import (
    TIMED_OUT,
    ModelError,
    PayloadTooLarge,
    ValidationError,
)
from endpoint.emulator.sagemaker.faults import Fault, Faults
from endpoint.emulator.sagemaker.request_log import Entry

# "A customer's model containers must respond to requests within 60 seconds" (API reference of
# InvokeEndpoint).
ANSWER_SECONDS = 60.0
# AWS's documentation says 25 MB since 2025; botocore's model still says 6,291,456 bytes.
LONGEST_BODY = 25 * 1024 * 1024

# SageMaker strips all other headers of a request and of a response.
PASSED_ON = (
    "Content-Type",
    "Accept",
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-Inference-Id",
)
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"

_HTML = b"<html><body><h1>It works!</h1></body></html>"


class CutOff(ConnectionError):
    """The connection ends here; the server closes it without another byte."""


@dataclass
class Models:
    """Reaches the model servers, through the faults that stand in the container."""

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
            ModelError: when the answer is not a 2xx, comes too late, or does not come.
        """
        fault = self.faults.take(endpoint.name, kinds.CONTAINER)
        try:
            answer = self._answer(endpoint, headers, body, seconds, entry, fault)
        except NoAnswer as error:
            raise _model_error(endpoint, error) from error
        if not 200 <= answer.status < 300:
            text = answer.body.decode("utf-8", "replace")
            raise ModelError(endpoint.name, endpoint.region, ACCOUNT, answer.status, text)
        return answer

    def _answer(
        self,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        body: bytes,
        seconds: float,
        entry: Entry,
        fault: Fault | None,
    ) -> ContainerResponse:
        if fault and fault.kind == "failing":
            entry.runs += 1
            return ContainerResponse(fault.status, {}, fault.body.encode("utf-8"))
        if fault and fault.kind == "slow":
            self.clock.sleep(min(fault.seconds, seconds))
            seconds -= fault.seconds
            if seconds <= 0:
                entry.runs += 1
                raise NoAnswer("too late", late=True)
        entry.runs += 1
        url = self.containers.url(endpoint)
        answer = call(url, headers, body, self.clock.real(seconds))
        if fault and fault.kind == "rubbish":
            return _spoilt(answer, fault)
        return answer


def _model_error(endpoint: Endpoint, error: NoAnswer) -> ModelError:
    # What SageMaker says of a container that is not there, between a crash and its restart, is
    # not documented; a 503 without a body stands for it.
    status, message = (0, TIMED_OUT) if error.late else (503, "")
    return ModelError(endpoint.name, endpoint.region, ACCOUNT, status, message)


def _spoilt(answer: ContainerResponse, fault: Fault) -> ContainerResponse:
    headers = dict(answer.headers)
    match fault.rubbish:
        case "html":
            return ContainerResponse(200, {**headers, "content-type": "text/html"}, _HTML)
        case "truncated":
            return ContainerResponse(200, headers, answer.body[: len(answer.body) // 2])
        case "empty":
            return ContainerResponse(200, headers, b"")
        case "mislabelled":
            return ContainerResponse(200, {**headers, "content-type": "text/plain"}, answer.body)


def invoke(models: Models, endpoint: Endpoint, request: Request, entry: Entry) -> Response:
    """Answer one InvokeEndpoint.

    Raises:
        RuntimeRefusal: in all its kinds; the caller turns it into a response.
        CutOff: when a fault wants the connection to end.
    """
    if endpoint.asynchronous:
        # That it is refused is documented; the wording here is this emulator's own.
        raise ValidationError(
            f"Endpoint {endpoint.name} of account {ACCOUNT} is configured for asynchronous "
            "inference. Use InvokeEndpointAsync."
        )
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    answer = models.ask(endpoint, headers, request.get_data(), ANSWER_SECONDS, entry)
    response = Response(answer.body, 200)
    response.headers["Content-Type"] = answer.headers.get("content-type", "")
    response.headers["x-Amzn-Invoked-Production-Variant"] = endpoint.variant
    attributes = answer.headers.get(CUSTOM_ATTRIBUTES.lower())
    if attributes is not None:
        response.headers[CUSTOM_ATTRIBUTES] = attributes
    return _way_back(models, endpoint, response)


def check_size(body: bytes, longest: int) -> None:
    """Raise PayloadTooLarge for a body above `longest` bytes."""
    if len(body) > longest:
        raise PayloadTooLarge(f"HTTP content length exceeded {longest} bytes.")


def _way_back(models: Models, endpoint: Endpoint, response: Response) -> Response:
    fault = models.faults.take(endpoint.name, kinds.WAY_BACK)
    if fault is None:
        return response
    body = response.get_data()
    parts = _drip(models.clock, body, fault.seconds) if fault.kind == "trickle" else _half(body)
    response.response = parts
    response.headers["Content-Length"] = str(len(body))
    return response


def _drip(clock: Clock, body: bytes, seconds: float, drops: int = 20) -> Iterator[bytes]:
    size = max(1, -(-len(body) // drops))
    for start in range(0, len(body), size):
        clock.sleep(seconds / drops)
        yield body[start : start + size]


def _half(body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    # Let what was written leave before the connection is cut.
    time.sleep(0.05)
    raise CutOff
