"""The error responses of SageMaker Runtime.

    RuntimeRefusal
    ├── ValidationError          400
    ├── Throttled                400  ThrottlingException
    ├── AccessDenied             403  AccessDeniedException
    ├── PayloadTooLarge          413  without a name of its own
    ├── ModelError               424  with the container's status and message
    ├── ModelNotReady            429  ModelNotReadyException
    ├── InternalFailure          500
    ├── ServiceUnavailable       503
    ├── Refused                  any status and code, from a fault
    └── InternalDependency       530  InternalDependencyException

Names and statuses are those of botocore's model of the service (sagemaker-runtime, 2017-05-13);
ThrottlingException and AccessDeniedException are common to all AWS services and are in no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from werkzeug.wrappers import Response


class RuntimeRefusal(Exception):
    """An error response; `str()` is its message.

    Attributes:
        status: the HTTP status.
        code: the name that botocore puts into `response["Error"]["Code"]`.
    """

    status: int = 500
    code: str | None = None

    def details(self) -> dict[str, Any]:
        """Return the members of the error's shape other than the message."""
        return {}

    def response(self) -> Response:
        """Return it as the service's JSON protocol writes errors."""
        body = json.dumps({"Message": str(self), **self.details()})
        # botocore reads the name from this header; without it the status is the code.
        headers = {} if self.code is None else {"x-amzn-ErrorType": self.code}
        return Response(body, self.status, headers, mimetype="application/json")


class ValidationError(RuntimeRefusal):
    """The request is invalid, or its endpoint does not exist or is of the other kind."""

    status = 400
    code = "ValidationError"


class Throttled(RuntimeRefusal):
    """Too many requests for the account."""

    status = 400
    code = "ThrottlingException"


class AccessDenied(RuntimeRefusal):
    """The caller's policy does not allow the call."""

    status = 403
    code = "AccessDeniedException"


class PayloadTooLarge(RuntimeRefusal):
    """The request's body is above the service's limit.

    Refused by the service's front, which names no error; botocore then takes the status as the
    code. The wording is that of front ends of other AWS services, unverified for this one.
    """

    status = 413


class ModelError(RuntimeRefusal):
    """The container answered with an error, too late, or not at all.

    Args:
        endpoint: the endpoint's name, for the log group.
        region: likewise.
        account: likewise.
        original_status: the container's HTTP status; 0 when there was no answer in time.
        original_message: the container's body, or the service's own text instead.
    """

    status = 424
    code = "ModelError"

    def __init__(
        self, endpoint: str, region: str, account: str, original_status: int, original_message: str
    ) -> None:
        self.original_status = original_status
        # The service's own model lets a message have 2,048 characters.
        self.original_message = original_message[:2048]
        group = f"/aws/sagemaker/Endpoints/{endpoint}"
        self.log_stream = f"arn:aws:logs:{region}:{account}:log-group:{group}"
        side = "client" if 400 <= original_status < 500 else "server"
        super().__init__(
            f'Received {side} error ({original_status}) from primary with message "'
            f'{self.original_message}". See https://{region}.console.aws.amazon.com/cloudwatch/'
            f"home?region={region}#logEventViewer:group={group} in account {account} for more "
            "information."
        )

    def details(self) -> dict[str, Any]:
        return {
            "OriginalStatusCode": self.original_status,
            "OriginalMessage": self.original_message,
            "LogStreamArn": self.log_stream,
        }


# OriginalMessage after 60 s, word for word (aws/sagemaker-python-sdk
# issue 1119 and many others). The status with it is 0.
TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the "
    "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)


class ModelNotReady(RuntimeRefusal):
    """The model is still being provisioned or loaded."""

    status = 429
    code = "ModelNotReadyException"


class InternalFailure(RuntimeRefusal):
    """The service failed."""

    status = 500
    code = "InternalFailure"


class ServiceUnavailable(RuntimeRefusal):
    """The service, or the endpoint's capacity, is unavailable at the moment."""

    status = 503
    code = "ServiceUnavailable"


class Refused(RuntimeRefusal):
    """An error that a test chose; `extra` are the members of its shape next to the message."""

    def __init__(self, status: int, code: str, message: str, extra: Mapping[str, Any]) -> None:
        self.status, self.code, self._extra = status, code, dict(extra)
        super().__init__(message)

    def details(self) -> dict[str, Any]:
        return self._extra


class InternalDependency(RuntimeRefusal):
    """Something that the service needs failed."""

    status = 530
    code = "InternalDependencyException"
