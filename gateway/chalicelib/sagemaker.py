"""A private SageMaker endpoint, invoked for one picture at a time; botocore's errors end here."""

from __future__ import annotations

import json
import threading
import time
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

from chalicelib.deadline import Deadline, DeadlinePassed
from chalicelib.errors import (
    BadPicture,
    ConnectionCut,
    EndpointBusy,
    EndpointFailed,
    EndpointForbidden,
    EndpointMissing,
    EndpointTooSlow,
    EndpointUnreachable,
    GatewayError,
    InvalidRequest,
    PictureRefused,
)
from chalicelib.generation import GenerationRequest
from chalicelib.pictures import LARGEST_PICTURE, MEDIA_TYPES, check_picture

_CONNECT_SECONDS = 2
# A frozen Lambda does not see the far side close an idle connection, and a request sent into one
# fails. Retrying could paint twice, so connections that may have gone stale are dropped instead.
_LONGEST_IDLE = 20.0


class Runtime:
    """The SageMaker Runtime client, made once, when the first picture is asked for."""

    def __init__(self, read_seconds: float) -> None:
        self._read_seconds = read_seconds
        self._lock = threading.Lock()
        self._client: Any = None
        self._used = time.monotonic()

    def client(self) -> Any:
        """Return the client, its stale connections dropped."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            elif time.monotonic() - self._used > _LONGEST_IDLE:
                self._client.close()  # closes the pooled connections; the client stays usable
            self._used = time.monotonic()
            return self._client

    def _make(self) -> Any:
        import boto3  # 100 ms of a cold start that pages, options and health do without
        from botocore.config import Config

        return boto3.client(
            "sagemaker-runtime",
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=self._read_seconds,
                # A generation that is sent twice is painted twice, and paid for twice.
                retries={"total_max_attempts": 1},
                max_pool_connections=50,
                tcp_keepalive=True,
            ),
        )


class Endpoint:
    """A model's endpoint in this account and region."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self._name = name

    def invoke(self, request: GenerationRequest, deadline: Deadline, trace: str) -> bytes:
        """Return the picture that the endpoint makes of `request`.

        Args:
            request: complete, that is with seed and model.
            deadline: the invocation, once sent, is given up when it has passed; the GPU works on.
            trace: an identifier for the container's log, at most 1,024 visible characters.

        Raises:
            GatewayError: one of this project's own, whatever AWS or the network does.
        """
        try:
            body = deadline.keep(lambda: self._fetch(request, trace))
        except DeadlinePassed as error:
            raise _too_slow() from error
        except ClientError as error:
            raise _translate_refusal(error) from error
        except BotoCoreError as error:
            raise _translate_failure(error) from error
        check_picture(body, request.format)
        return body

    def _fetch(self, request: GenerationRequest, trace: str) -> bytes:
        answer = self._runtime.client().invoke_endpoint(
            EndpointName=self._name,
            ContentType="application/json",
            # The serving container labels its answer with this very string.
            Accept=MEDIA_TYPES[request.format],
            CustomAttributes=trace,
            Body=json.dumps(request.to_dict()).encode(),
        )
        stream = answer["Body"]
        if _announced_length(answer) > LARGEST_PICTURE:
            stream.close()
            raise BadPicture(
                "The picture is too large to be sent back. Ask for format=webp or format=jpeg,"
                " or for a smaller one.",
                field="format",
            )
        return bytes(stream.read())


def _announced_length(answer: Any) -> int:
    return int(answer["ResponseMetadata"]["HTTPHeaders"].get("content-length", 0))


def _too_slow() -> EndpointTooSlow:
    return EndpointTooSlow("The model did not finish the picture in time.")


_UNREACHABLE = (EndpointConnectionError, ConnectTimeoutError)
_CUT = (ConnectionClosedError, ResponseStreamingError, IncompleteReadError)
_UNSIGNED = (NoCredentialsError, PartialCredentialsError)


def _translate_failure(error: BotoCoreError) -> GatewayError:
    """Name what happened when no answer came from SageMaker, or only half of one."""
    if isinstance(error, ReadTimeoutError):
        return _too_slow()
    if isinstance(error, _UNREACHABLE):
        return EndpointUnreachable("The model could not be reached.")
    if isinstance(error, _CUT):
        return ConnectionCut("The connection to the model broke before the picture was there.")
    if isinstance(error, _UNSIGNED):
        return _forbidden()
    return EndpointFailed("The model could not be asked.")


# The error codes of SageMaker Runtime's service model, and those that any AWS service may give:
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


def _translate_refusal(error: ClientError) -> GatewayError:
    """Name what happened when SageMaker answered with an error."""
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    if code == "ModelError":
        return _translate_model_error(error.response)
    if code in _BUSY_CODES:
        return EndpointBusy("The model has more to do than it can take, or is still starting.")
    if code in _FORBIDDEN_CODES:
        return _forbidden()
    if code in {"ValidationError", "ValidationException"} and "not found" in message:
        return EndpointMissing("The model has no endpoint at the moment.")
    return EndpointFailed("The model could not be asked.")


def _forbidden() -> EndpointForbidden:
    return EndpointForbidden("This gateway is not allowed to call the model.")


def _translate_model_error(response: Any) -> GatewayError:
    """Read the container's own status and body, which SageMaker passes on in its error."""
    status = int(response.get("OriginalStatusCode") or 500)
    reported = _reported_error(response.get("OriginalMessage") or "")
    message = str(reported.get("message", ""))
    if reported.get("code") == "moderation_blocked":
        return PictureRefused(message)
    if reported.get("code") == "invalid_request":
        return InvalidRequest(message, field=str(reported.get("field", "")) or None)
    if reported.get("code") == "out_of_memory":
        return EndpointFailed("The picture did not fit the model's memory. Ask for a smaller one.")
    if status in {429, 503}:
        return EndpointBusy("The model has more pictures to paint than it can queue.")
    return EndpointFailed("The model failed while it painted this picture.")


def _reported_error(body: str) -> dict[str, Any]:
    """Return the `error` object of this project's container, or nothing for any other body."""
    try:
        reported = json.loads(body)
    except ValueError:
        return {}
    error = reported.get("error") if isinstance(reported, dict) else None
    return error if isinstance(error, dict) else {}
