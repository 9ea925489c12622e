"""SageMaker Runtime: pictures and descriptions from an endpoint, real-time or asynchronous."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from endpoint.core.backends.backend import Backend, BadAnswer, Invocation
from endpoint.core.backends.fields import GenerationRequest
from endpoint.core.backends.setting import EASEL
from endpoint.core.picture_files import is_whole
from endpoint.core.problems import InvocationError, NotReady, PictureFailed, code_of, message_of
from endpoint.core.waiting import Waiting

_DESCRIBE = {"describe": True}
# SageMaker's own states, in which the request has not reached the model.
_NOT_YET = {
    "ModelNotReadyException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "ThrottlingException",
    "InternalDependencyException",
    "InternalFailure",
}
LONGEST_RUN_SECONDS = 3600  # the longest processing time of an asynchronous invocation


@dataclass(frozen=True)
class AsyncJob:
    """The addresses in S3 where SageMaker stores the result of an asynchronous invocation."""

    output: str
    failure: str | None


class Runtime:
    """Invokes endpoints.

    Args:
        client: the client of sagemaker-runtime, without retries.
        s3: the client of s3, where the output of asynchronous invocations is stored.
    """

    def __init__(self, client: Any, s3: Any, waiting: Waiting) -> None:
        self._client = client
        self._s3 = s3
        self._waiting = waiting

    def generate(
        self,
        endpoint: str,
        request: Mapping[str, Any],
        accept: str = "image/png",
        backend: Backend = EASEL,
    ) -> bytes:
        """Return the picture that a real-time endpoint generates for a request.

        Args:
            endpoint: its name.
            request: with what the backend needs.
            accept: the media type of the picture.
            backend: what answers in the endpoint's container.

        Raises:
            NotReady: if a later attempt can succeed.
            PictureFailed: if the container returns an error, or something other than a picture of
                this type.
        """
        invocation = _invocation(request, accept, backend)
        body, kind = self._invoke(endpoint, invocation, backend)
        try:
            return _checked(backend.picture(body, kind), accept)
        except BadAnswer as error:
            raise PictureFailed(f"The endpoint returned {error}.") from error

    def describe(self, endpoint: str) -> bytes:
        """Return the JSON in which a real-time endpoint's model describes itself, unchecked.

        Raises:
            NotReady: if a later attempt can succeed.
            PictureFailed: if the container returns an error.
        """
        invocation = _invocation(_DESCRIBE, "application/json", EASEL)
        return self._invoke(endpoint, invocation, EASEL)[0]

    def _invoke(self, endpoint: str, invocation: Invocation, backend: Backend) -> tuple[bytes, str]:
        """Return the body and the media type of an endpoint's answer."""
        try:
            response = self._client.invoke_endpoint(EndpointName=endpoint, **_sent(invocation))
            body: bytes = response["Body"].read()
        # No response: the container can still be working on the request.
        except (ReadTimeoutError, ConnectionClosedError) as error:
            raise NotReady(f"{endpoint} did not answer in time") from error
        except ClientError as error:
            raise _translate(error, backend) from error
        return body, str(response.get("ContentType", ""))

    def generate_async(
        self, endpoint: str, request: Mapping[str, Any], key: str, backend: Backend = EASEL
    ) -> bytes:
        """Return the PNG that an asynchronous endpoint generates, polling S3 for it.

        Args:
            endpoint: its name.
            request: the generation request.
            key: the output's file name, 1 to 32 characters with one dot.
            backend: as in `generate`.

        Raises:
            PictureFailed: if the container returns an error, or something other than a PNG.
            TookTooLong: after an hour.
        """
        job = self.begin_async(endpoint, request, key, backend=backend)
        phase = f"{endpoint}: waiting for the picture (an idle endpoint starts in minutes)"
        return _checked(self._output(job, phase, LONGEST_RUN_SECONDS))

    def describe_async(self, endpoint: str, key: str, seconds: float) -> bytes:
        """Return the JSON in which an asynchronous endpoint's model describes itself, unchecked.

        Args:
            endpoint: its name.
            key: as in `generate_async`.
            seconds: how long to wait for it.

        Raises:
            PictureFailed: if the container returns an error.
            TookTooLong: after the seconds.
        """
        job = self.begin_async(endpoint, _DESCRIBE, key, accept="application/json")
        return self._output(job, f"{endpoint}: waiting for its description", seconds)

    def _output(self, job: AsyncJob, phase: str, seconds: float) -> bytes:
        outputs: list[bytes] = []

        def poll() -> str | None:
            output = self._output_of(job)
            if output is None:
                return phase
            outputs.append(output)
            return None

        self._waiting.until_done(poll, at_most=seconds, every=2)
        return outputs[0]

    def begin_async(
        self,
        endpoint: str,
        request: Mapping[str, Any],
        key: str,
        *,
        accept: str = "image/png",
        folder: str | None = None,
        queue_seconds: int | None = None,
        backend: Backend = EASEL,
    ) -> AsyncJob:
        """Enqueue a request.

        Args:
            endpoint: as in `generate_async`.
            request: likewise.
            key: likewise.
            accept: the media type of the picture.
            folder: what SageMaker appends to the endpoint's output, before the file name.
            queue_seconds: how long it may wait for an instance, from 60 to 21,600; None for
                SageMaker's default, which is the most.
            backend: as in `generate`.
        """
        more: dict[str, Any] = {
            "S3OutputPathExtension": folder,
            "RequestTTLSeconds": queue_seconds,
            "InvocationTimeoutSeconds": LONGEST_RUN_SECONDS if queue_seconds else None,
        }
        response = self._client.invoke_endpoint_async(
            EndpointName=endpoint,
            Filename=key,
            **_sent(_invocation(request, accept, backend)),
            **{name: value for name, value in more.items() if value is not None},
        )
        return AsyncJob(response["OutputLocation"], response.get("FailureLocation"))

    def result_of(self, job: AsyncJob) -> bytes | None:
        """Return the job's PNG, or None while there is no result.

        Raises:
            PictureFailed: if the container returned an error, or something other than a PNG.
        """
        output = self._output_of(job)
        return None if output is None else _checked(output)

    def poll(self, job: AsyncJob) -> tuple[bytes | None, str | None]:
        """Return the job's output, or the reason of its failure; None for what is not there."""
        output = self._fetch(job.output)
        if output is not None:
            return output, None
        failure = self._fetch(job.failure) if job.failure else None
        return None, None if failure is None else failure.decode(errors="replace")[:500]

    def forget_failure(self, job: AsyncJob) -> None:
        """Delete the reason of a failure: the next run's may have the same place."""
        if job.failure:
            self._s3.delete_object(**_object(job.failure))

    def _output_of(self, job: AsyncJob) -> bytes | None:
        output, reason = self.poll(job)
        if reason is not None:
            raise PictureFailed(f"The model failed: {reason}")
        return output

    def _fetch(self, location: str) -> bytes | None:
        try:
            response = self._s3.get_object(**_object(location))
        except ClientError as error:
            # The object appears when the invocation ends.
            if code_of(error) in {"NoSuchKey", "404"}:
                return None
            raise
        body: bytes = response["Body"].read()
        return body


def _object(location: str) -> dict[str, str]:
    parts = urlsplit(location)
    return {"Bucket": parts.netloc, "Key": parts.path.lstrip("/")}


def _invocation(request: Mapping[str, Any], accept: str, backend: Backend) -> Invocation:
    """Return what is sent for a request, in the words of its backend."""
    # Easel's own container checks requests itself, and takes some that are for no picture.
    if backend.name == EASEL.name:
        return Invocation(json.dumps(request).encode(), accept, "")
    return backend.invocation(GenerationRequest.from_dict(request), "")


def _sent(invocation: Invocation) -> dict[str, Any]:
    attributes = invocation.attributes
    return {
        "ContentType": "application/json",
        "Accept": invocation.accept,
        "Body": invocation.body,
        **({"CustomAttributes": attributes} if attributes else {}),
    }


def _translate(error: ClientError, backend: Backend) -> InvocationError:
    code, message = code_of(error), message_of(error)
    if code == "ModelError":
        status = int(error.response.get("OriginalStatusCode") or 500)
        message = str(error.response.get("OriginalMessage") or message)[:500]
        # The container also reports 500 for "Worker died.", after which it starts a new worker.
        if status >= 500:
            return NotReady(message)
        message = str(backend.report(status, message).get("message") or message)
        return PictureFailed(f"The model rejected the request: {message}")
    if code in _NOT_YET:
        return NotReady(message or code)
    if code == "ValidationError" and "not found" in message:
        return PictureFailed(
            message,
            "`python -m endpoint status` lists the endpoints; `python -m endpoint start` restores"
            " a stopped one.",
        )
    return PictureFailed(f"{code}: {message}")


def _checked(body: bytes, accept: str = "image/png") -> bytes:
    kind = accept.removeprefix("image/")
    if not is_whole(body, kind):
        raise PictureFailed(f"The endpoint returned {len(body)} bytes that are no whole {kind}.")
    return body
