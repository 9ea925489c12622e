"""A private SageMaker endpoint, invoked for one picture at a time. botocore's errors end here."""

from __future__ import annotations

import html
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from chalicelib.aws.clients import Client
from chalicelib.aws.deadline import Deadline, DeadlinePassed, NoTimeLeft, shared
from chalicelib.backends.backend import Abilities, Backend, BadAnswer, Invocation
from chalicelib.backends.setting import EASEL
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
    GatewayError,
    InvalidRequest,
    JobFailed,
    PictureRefused,
    PictureTooLarge,
)
from chalicelib.generation import GenerationRequest
from chalicelib.image_files import LARGEST_PICTURE, check_picture, compressed


class Endpoint:
    """A model's real-time endpoint in this account and region.

    Args:
        runtime: SageMaker Runtime.
        name: of the endpoint.
        backend: what answers in its container.
    """

    def __init__(self, runtime: Client, name: str, backend: Backend = EASEL) -> None:
        self._runtime = runtime
        self._name = name
        self._backend = backend

    def invoke(
        self,
        request: GenerationRequest,
        deadline: Deadline,
        trace: str,
        changed: int | None = None,
    ) -> bytes:
        """Return the picture that the endpoint makes of `request`.

        Args:
            request: complete, as `complete` of the image service returns it.
            deadline: the invocation is abandoned when it has passed; the model stops at its next
                step.
            trace: an identifier for the container's log, at most 960 visible characters.
            changed: when the file of one of the request's adapters was changed last, in seconds
                since 1970: the container uses no earlier one.

        Raises:
            GatewayError: for every failure of AWS or the network.
        """
        with _translated(self._backend):
            attributes = _until(deadline, _with_change(trace, changed))
            sent = self._backend.invocation(request, attributes)
            answer, media_type = deadline.keep(lambda: self._fetch(sent))
        try:
            body = self._backend.picture(answer, media_type)
        except BadAnswer as error:
            raise BadPicture(f"The model's response was {error}.") from error
        check_picture(body, request.file_format)
        if len(body) > LARGEST_PICTURE:
            body = compressed(body)
        if len(body) > LARGEST_PICTURE:
            raise _too_large_to_return()
        return body

    def _fetch(self, sent: Invocation) -> tuple[bytes, str]:
        response = self._runtime.client().invoke_endpoint(
            EndpointName=self._name,
            ContentType="application/json",
            Accept=sent.accept,
            CustomAttributes=sent.attributes,
            Body=sent.body,
        )
        stream = response["Body"]
        abilities = self._backend.abilities
        if _content_length(response) > _longest_answer(abilities):
            # Nothing is read: the rest of a large picture would only use up the deadline.
            stream.close()
            raise _too_large_to_return()
        return bytes(stream.read()), str(response.get("ContentType") or "")


class AsyncEndpoint:
    """A model's asynchronous endpoint: it queues requests, and writes the pictures to S3.

    Args:
        runtime: SageMaker Runtime.
        name: of the endpoint.
        backend: what answers in its container, with the picture itself.

    Attributes:
        backend: likewise.
    """

    def __init__(self, runtime: Client, name: str, backend: Backend = EASEL) -> None:
        self._runtime = runtime
        self._name = name
        self.backend = backend

    def submit(
        self,
        request: GenerationRequest,
        folder: str,
        file: str,
        timeouts: QueueTimeouts,
        trace: str,
        changed: int | None = None,
        name: str | None = None,
    ) -> QueuedRun:
        """Queue `request`, and ask for its picture as `file` in `folder`, below the S3 path.

        Args:
            request: complete, as for a real-time endpoint.
            folder: at most 512 characters.
            file: at most 32 characters, with one dot.
            timeouts: how long it may wait, and how long the container may take.
            trace: an identifier for the container's log.
            changed: as for a real-time endpoint.
            name: of the run, at most 64 characters; None for one of SageMaker's.

        Returns:
            Where SageMaker says that it will write. How it makes an address of `folder` and `file`
            is not documented: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointAsync.html

        Raises:
            MayHaveReachedGpu: if the response was lost: the request may be queued or not.
            GatewayError: any other, if it certainly was not queued.
        """
        with _translated(self.backend):
            # SageMaker does not tell the container when it has given up.
            attributes = f"{_with_change(trace, changed)};within={timeouts.run_seconds}"
            sent = self.backend.invocation(request, attributes)
            named = {"InferenceId": name} if name else {}
            queued = shared().keep(lambda: self._submit(sent, folder, file, timeouts, named))
        return QueuedRun(queued.get("OutputLocation"), queued.get("FailureLocation"))

    def _submit(
        self,
        sent: Invocation,
        folder: str,
        file: str,
        timeouts: QueueTimeouts,
        named: Mapping[str, str],
    ) -> dict[str, Any]:
        queued: dict[str, Any] = self._runtime.client().invoke_endpoint_async(
            EndpointName=self._name,
            ContentType="application/json",
            Accept=sent.accept,
            CustomAttributes=sent.attributes,
            # Inline, up to 128,000 bytes: no upload before the call.
            Body=sent.body,
            # In botocore since 1.43.0, and an inline body since 1.43.30. Lambda's own copy may
            # be older, so the package contains boto3.
            S3OutputPathExtension=folder,
            Filename=file,
            # SageMaker's defaults are six hours in the queue and 15 minutes for the run.
            RequestTTLSeconds=timeouts.queue_seconds,
            InvocationTimeoutSeconds=timeouts.run_seconds,
            **named,
        )
        return queued


@dataclass(frozen=True)
class QueuedRun:
    """The `s3://` addresses of a queued request, as far as SageMaker names them.

    Attributes:
        output: where the picture will be written.
        failure: where the reason will be written if there is no picture.
    """

    output: str | None = None
    failure: str | None = None


# Lambda's own limit: a claimed request is queued by then, or never.
_LONGEST_SUBMISSION = 60


@dataclass(frozen=True)
class QueueTimeouts:
    """The limits of a queued request.

    Attributes:
        queue_seconds: how long it may wait for an instance, from 60 to 21,600.
        run_seconds: how long the container may take, from 1 to 3,600.
    """

    # A start from zero instances is reported to take 5 to 15 minutes.
    queue_seconds: int = 1_800
    # Any run can be the first after zero, in which a container that fetches its weights from the
    # hub waits for them.
    run_seconds: int = 1_800

    @property
    def longest(self) -> int:
        """Seconds after a request is claimed, at most, in which a run of it can be alive."""
        return _LONGEST_SUBMISSION + self.queue_seconds + self.run_seconds


def _with_change(trace: str, changed: int | None) -> str:
    return trace if changed is None else f"{trace};changed={changed}"


def _until(deadline: Deadline, trace: str) -> str:
    """Return the custom attributes from which the container knows when nobody waits any more."""
    if math.isinf(deadline.remaining):
        return trace
    # Clocks on AWS agree within milliseconds. Seconds from now would not count the time in the
    # model server's queue.
    return f"{trace};until={time.time() + deadline.remaining:.3f}"


def _content_length(response: Any) -> int:
    return int(response["ResponseMetadata"]["HTTPHeaders"].get("content-length", 0))


# What SageMaker returns of a container's response at most, in bytes:
# https://docs.aws.amazon.com/general/latest/gr/sagemaker.html#limits_sagemaker
_LONGEST_RESPONSE = 26_214_400


def _longest_answer(abilities: Abilities) -> int:
    """Return how many bytes of an answer can have a picture in them that is not too large."""
    if not abilities.compressed:
        return _LONGEST_RESPONSE  # it is compressed here
    # base64 in JSON, with some text next to it.
    return LARGEST_PICTURE if abilities.raw else LARGEST_PICTURE // 3 * 4 + 10_000


def _too_large_to_return() -> PictureTooLarge:
    return PictureTooLarge(
        "The picture is too large to be returned. Set format=webp or format=jpeg, or request a"
        " smaller one.",
        field="format",
    )


@contextmanager
def _translated(backend: Backend) -> Iterator[None]:
    """Raise the GatewayError for a failure of AWS, of the network or of the deadline."""
    try:
        yield
    except NoTimeLeft as error:
        raise EndpointUnreachable("There was no time left to reach the model.") from error
    except DeadlinePassed as error:
        raise _too_slow() from error
    except ClientError as error:
        raise _translate_refusal(error, backend) from error
    except BotoCoreError as error:
        raise _translate_failure(error) from error


def _too_slow() -> EndpointTooSlow:
    return EndpointTooSlow("The model did not finish the picture in time.")


# No byte of the request was sent, so no run can have started.
_UNREACHABLE = (EndpointConnectionError, ConnectTimeoutError)
# The request was sent, so a run may be in progress.
_CUT = (ConnectionClosedError, ResponseStreamingError, IncompleteReadError)
_UNSIGNED = (NoCredentialsError, PartialCredentialsError)


def _translate_failure(error: BotoCoreError) -> GatewayError:
    """Return the error for a response of SageMaker that is missing or incomplete."""
    # The request was sent, so a GPU may be working on it.
    if isinstance(error, ReadTimeoutError):
        return _too_slow()
    if isinstance(error, _UNREACHABLE):
        return EndpointUnreachable("The model could not be reached.")
    if isinstance(error, _CUT):
        return ConnectionCut("The connection to the model broke before the picture was complete.")
    if isinstance(error, _UNSIGNED):
        return _forbidden()
    return EndpointFailed("The model could not be invoked.")


# The error codes of SageMaker Runtime's service model, and those of all AWS services:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
_BUSY_CODES = {
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "ModelNotReadyException",
    "InternalDependencyException",
}
_FORBIDDEN_CODES = {
    "AccessDeniedException",
    "AccessDenied",
    "ExpiredTokenException",
    "ExpiredToken",
    "IncompleteSignature",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "NotAuthorized",
    "OptInRequired",
    "UnrecognizedClientException",
}


def _translate_refusal(error: ClientError, backend: Backend) -> GatewayError:
    """Return the error for an error response of SageMaker."""
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    if code == "ModelError":
        return _translate_model_error(error.response, backend)
    if code in _BUSY_CODES:
        return EndpointBusy("The model is at capacity, or is still starting.")
    if code in _FORBIDDEN_CODES:
        return _forbidden()
    # An invalid parameter has the same code: only the message tells it apart.
    if code in {"ValidationError", "ValidationException"} and "not found" in message:
        return EndpointMissing("The model has no endpoint at the moment.")
    return EndpointFailed("The model could not be invoked.")


# How the model server of SageMaker's containers begins its refusal while its queue is full:
# https://github.com/awslabs/multi-model-server
_NO_WORKER = "No worker is available"


def _forbidden() -> EndpointForbidden:
    return EndpointForbidden("This gateway is not allowed to call the model.")


def _translate_model_error(response: Any, backend: Backend) -> GatewayError:
    """Return the error for the container's own status and body, which SageMaker passes on."""
    # SageMaker reports 0 when the container has not responded within 60 s:
    # https://github.com/aws/sagemaker-python-sdk/issues/1119
    status = int(response.get("OriginalStatusCode") or 500)
    message = str(response.get("OriginalMessage") or "")
    reported = backend.report(status, message)
    error = _translate_report(reported)
    if error is not None:
        return error
    if reported.get("code") == "too_slow":
        return _too_slow()
    # The model server returns 503 when 100 requests wait for its worker.
    if status == 429 or (status == 503 and _NO_WORKER in message):
        return EndpointBusy("The model's queue is full.")
    if status == 503:
        # Only a full queue says that nothing has run.
        return EndpointDown("The model's server does not respond. It may be starting again.")
    return EndpointFailed("The model failed to generate this picture.")


# The serving toolkit reports any exception as a 400 of this type, so that it is not a refusal.
_ACCIDENT = "InternalServerException"
# SageMaker's sentence around a container's error: "Received client error (400) from primary".
_STATUS = re.compile(r"\b(?:error|status|code)\b\W{1,5}(?:code\W{1,5})?([1-5]\d\d)\b", re.I)
# The statuses of this project's container for requests that would be refused again.
_REFUSALS = {400, 422}
_ESCAPED = re.compile(r'\\(["\\/])')
# JSON within JSON within JSON: a message in a notification, say.
_DEEPEST_ESCAPE = 3


def failure_of(text: str, backend: Backend = EASEL) -> GatewayError:
    """Return the error for what SageMaker wrote when a queued request failed.

    Its format is not documented. The container's own JSON is searched in it, and without that the
    container's status: a request that was refused would be refused again, after another paid run.

    Args:
        text: of the object that SageMaker wrote.
        backend: what answers in the container.
    """
    found = _STATUS.search(text)
    status = int(found[1]) if found else None
    for readable in _unescaped(text):
        if (error := _translate_report(backend.report(status, readable))) is not None:
            return error
    # Only Easel's own container means a refusal by such a status.
    if backend.name == EASEL.name and status in _REFUSALS and _ACCIDENT not in text:
        return InvalidRequest("The model refused this request.")
    if status == 507:
        return _too_large_for_memory()
    return JobFailed("The model failed to generate this picture.")


def _unescaped(text: str) -> Iterator[str]:
    """Yield a text as it is, and then with one level of escaping after another removed."""
    yield text
    text = html.unescape(text)
    for _ in range(_DEEPEST_ESCAPE + 1):
        yield text
        text = _ESCAPED.sub(r"\1", text)


# With these, this project's model server reports that nothing has run.
_REFUSED_CODES = {"busy", "starting", "stopping", "unhealthy", "adapters_unavailable"}
# SageMaker's longest invocation takes an hour.
_LONGEST_RETRY = 3_600


def _translate_report(reported: dict[str, Any]) -> GatewayError | None:
    message = str(reported.get("message", ""))
    if reported.get("code") in _REFUSED_CODES:
        return _busy(message, reported.get("retry_after"))
    if reported.get("code") == "moderation_blocked":
        return PictureRefused(message)
    if reported.get("code") == "invalid_request":
        return InvalidRequest(message, field=str(reported.get("field", "")) or None)
    if reported.get("code") == "out_of_memory":
        return _too_large_for_memory()
    return None


def _too_large_for_memory() -> PictureTooLarge:
    message = "width: the picture did not fit the model's memory; request a smaller one"
    return PictureTooLarge(message, field="width")


def _busy(message: str, seconds: object) -> EndpointBusy:
    error = EndpointBusy(message or "The model is at capacity, or is still starting.")
    if isinstance(seconds, int) and 0 < seconds <= _LONGEST_RETRY:
        error.retry_after = seconds
    return error
