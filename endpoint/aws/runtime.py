"""SageMaker Runtime: pictures from an endpoint, real-time or asynchronous."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from endpoint.core.problems import AwsError, ScriptError, code_of, message_of
from endpoint.core.waiting import Waiting

_PNG = b"\x89PNG\r\n\x1a\n"
_NOT_YET = {
    "ModelNotReadyException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "ThrottlingException",
    "InternalDependencyException",
    "InternalFailure",
}
_MOST_SECONDS = 3600  # an asynchronous invocation's own limit


class PictureFailed(ScriptError):
    """The container refused or failed a picture; the message is its own."""


class NotReady(AwsError):
    """The endpoint is there, but does not serve yet."""


class Runtime:
    """Invokes endpoints.

    Args:
        client: of sagemaker-runtime, without retries.
        s3: of s3, where asynchronous pictures appear.
    """

    def __init__(self, client: Any, s3: Any, waiting: Waiting) -> None:
        self._client = client
        self._s3 = s3
        self._waiting = waiting

    def generate(self, endpoint: str, request: dict[str, Any]) -> bytes:
        """Return the PNG that a real-time endpoint makes of a request.

        Raises:
            NotReady: if asking again later may help.
            PictureFailed: if the container says no, or answers no PNG.
        """
        try:
            answer = self._client.invoke_endpoint(
                EndpointName=endpoint,
                ContentType="application/json",
                Accept="image/png",
                Body=json.dumps(request).encode(),
            )
            body: bytes = answer["Body"].read()
        except (ReadTimeoutError, ConnectionClosedError) as error:
            raise NotReady(f"{endpoint} did not answer in time") from error
        except ClientError as error:
            raise _translate(error) from error
        return _checked(body)

    def generate_async(self, endpoint: str, request: dict[str, Any], key: str) -> bytes:
        """Return the PNG that an asynchronous endpoint makes of a request, waiting for it in S3.

        Args:
            endpoint: its name.
            request: what to paint.
            key: the output's file name, 1 to 32 characters with one dot.

        Raises:
            PictureFailed: if the container says no, or answers no PNG.
            TookTooLong: after an hour.
        """
        answer = self._client.invoke_endpoint_async(
            EndpointName=endpoint,
            ContentType="application/json",
            Accept="image/png",
            Body=json.dumps(request).encode(),
            Filename=key,
        )
        done: list[bytes] = []

        def look() -> str | None:
            found = self._fetch(answer["OutputLocation"])
            if found is None:
                self._raise_failure(answer.get("FailureLocation"))
                return f"{endpoint}: waiting for the picture; an endpoint at rest wakes in minutes"
            done.append(found)
            return None

        self._waiting.until_done(look, at_most=_MOST_SECONDS, every=2)
        return _checked(done[0])

    def _raise_failure(self, location: str | None) -> None:
        said = self._fetch(location) if location else None
        if said is not None:
            raise PictureFailed(f"The model failed: {said.decode(errors='replace')[:500]}")

    def _fetch(self, location: str) -> bytes | None:
        parts = urlsplit(location)
        try:
            answer = self._s3.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
        except ClientError as error:
            if code_of(error) in {"NoSuchKey", "404"}:
                return None
            raise
        body: bytes = answer["Body"].read()
        return body


def _translate(error: ClientError) -> ScriptError:
    code, said = code_of(error), message_of(error)
    if code == "ModelError":
        status = int(error.response.get("OriginalStatusCode") or 500)
        said = str(error.response.get("OriginalMessage") or said)[:500]
        # 500 is also "worker died": it is being started anew.
        return NotReady(said) if status >= 500 else PictureFailed(f"The model refused: {said}")
    if code in _NOT_YET:
        return NotReady(said or code)
    if code == "ValidationError" and "not found" in said:
        return PictureFailed(said, "`status` shows what there is; `start` brings it back.")
    return PictureFailed(f"{code}: {said}")


def _checked(body: bytes) -> bytes:
    if not body.startswith(_PNG):
        raise PictureFailed(f"The endpoint answered {len(body)} bytes that are not a PNG.")
    return body
