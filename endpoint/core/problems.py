"""What can go wrong in a script, each with what the operator can do about it.

ScriptError                 any failure that the operator can act on; exit code 1
├── Declined                the operator did not agree; nothing was changed
├── BadArgument             an option has an unusable value; exit code 2
├── AwsError                AWS refused a call, or did not answer it
│   ├── CredentialsMissing
│   ├── CredentialsExpired
│   ├── AccessDenied
│   ├── QuotaTooSmall
│   ├── Throttled
│   └── Unreachable
├── StackFailed             CloudFormation could not create or delete the stack
├── PlanUnusable            a change set is not, or no longer, what was wanted
├── EndpointFailed          SageMaker could not bring an endpoint into service
│   ├── NoCapacity
│   └── NeverHealthy
├── BuildFailed             CodeBuild could not build the serving image
├── InvocationError         an endpoint returned no picture
│   ├── NotReady            a later attempt can succeed
│   └── PictureFailed       every attempt would fail in the same way
├── TrainingFailed          a training job failed, or left no usable adapter
├── TookTooLong
└── UploadFailed
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)


class ScriptError(Exception):
    """A failure that the operator can act on.

    Attributes:
        advice: what to do, in one or two sentences.
        exit_code: the script's.
    """

    exit_code = 1

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class Declined(ScriptError):
    """The operator did not confirm, so nothing was changed."""


class BadArgument(ScriptError):
    """An option has an unusable value, or options contradict each other."""

    exit_code = 2  # as argparse's


class AwsError(ScriptError):
    """AWS refused a call, or did not answer it."""


class CredentialsMissing(AwsError):
    """boto3 found no usable credentials."""


class CredentialsExpired(AwsError):
    """The credentials or the SSO session must be renewed."""


class AccessDenied(AwsError):
    """A policy does not allow the call."""


class QuotaTooSmall(AwsError):
    """The account's quota does not allow the instances."""


class Throttled(AwsError):
    """AWS still throttled the call after all of boto3's retries."""


class Unreachable(AwsError):
    """No connection to AWS, or no response from it."""


class StackFailed(ScriptError):
    """CloudFormation could not create, update or delete the stack."""


class PlanUnusable(ScriptError):
    """A change set is obsolete, another stack's, or made from something else than this folder."""


class EndpointFailed(ScriptError):
    """SageMaker could not bring an endpoint into service, or could not delete it."""


class NoCapacity(EndpointFailed):
    """AWS has no free instance of the requested types."""


class NeverHealthy(EndpointFailed):
    """The container did not start, or serves no pictures."""


class BuildFailed(ScriptError):
    """CodeBuild could not build the serving image, or SageMaker cannot serve with it."""


class InvocationError(ScriptError):
    """An endpoint returned no picture."""


class NotReady(InvocationError):
    """The endpoint exists but does not serve yet; a later attempt can succeed."""


class PictureFailed(InvocationError):
    """The container refused or failed the request; the message is the container's own."""


class TrainingFailed(ScriptError):
    """A training job failed, or left no adapter that can be used."""


class TookTooLong(ScriptError):
    """A wait reached its time limit."""


class UploadFailed(ScriptError):
    """A file could not be read here, or could not be stored."""


AGAIN = "Run the same command again: it continues where it stopped."

# AWS's error codes differ by service and by protocol; these are the ones met so far.
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_INVALID = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "AuthFailure",
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "InvalidSignatureException",
}
# HEAD responses have no body, so S3 reports only the status as the code.
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}
_THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
    "LimitExceededException",
}
_QUOTA = {"ResourceLimitExceeded", "ServiceQuotaExceededException"}
_SECOND = (
    "An update starts the new version next to the old one, which needs a second instance; `create"
    " --replace` deletes the old one first, and answers nothing for about ten minutes."
)
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    ProfileNotFound,
)
_SIGNED_OUT = (SSOTokenLoadError, TokenRetrievalError, UnauthorizedSSOTokenError)
_UNREACHABLE = (
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn botocore's errors into this module's.

    Raises:
        AwsError: instead of any botocore error.
    """
    try:
        yield
    # ClientError, an error response, is not a subclass of BotoCoreError.
    except ClientError as error:
        raise from_client_error(error) from error
    except BotoCoreError as error:
        raise _from_botocore(error) from error


def code_of(error: ClientError) -> str:
    """Return the code of an AWS error response; empty if it has none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """Return the message of an AWS error response; empty if it has none."""
    return str(error.response.get("Error", {}).get("Message", ""))


def from_client_error(error: ClientError) -> AwsError:
    """Return the error for an error response of AWS."""
    code = code_of(error)
    message = f"{error.operation_name}: {message_of(error) or code}"
    if code in _EXPIRED:
        return _expired(message)
    if code in _INVALID:
        return CredentialsMissing(message, f"Check the access key, or --profile. {AGAIN}")
    if code in _DENIED:
        return AccessDenied(
            message,
            "Ask for this permission, or pass a --profile that has it;"
            f" `python -m endpoint doctor` lists the permissions needed. {AGAIN}",
        )
    if code in _QUOTA:
        second = f"{_SECOND} " if error.operation_name == "UpdateEndpoint" else ""
        return QuotaTooSmall(message, f"{second}{quota_advice()} {AGAIN}")
    if code in _THROTTLED:
        return Throttled(message, f"Wait a minute. {AGAIN}")
    return AwsError(message, AGAIN)


def quota_advice() -> str:
    """Return how to raise a quota for instances."""
    return (
        "Raise the quota `<instance type> for endpoint usage` of Amazon SageMaker"
        " (https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas;"
        " `python -m endpoint doctor` prints the command), or choose another type with"
        " --instance-type."
    )


def _expired(message: str) -> CredentialsExpired:
    return CredentialsExpired(
        message,
        f"Your credentials have expired: renew them (`aws sso login`, or new keys). {AGAIN}",
    )


def _from_botocore(error: BotoCoreError) -> AwsError:
    if isinstance(error, _SIGNED_OUT):
        return _expired(str(error))
    if isinstance(error, _NO_CREDENTIALS):
        return CredentialsMissing(
            str(error), f"Run `aws configure` or `aws sso login`, or pass --profile. {AGAIN}"
        )
    if isinstance(error, _UNREACHABLE):
        return Unreachable(str(error), f"Check the network, and --region. {AGAIN}")
    # The rest is unusual enough that no advice fits all of it.
    return AwsError(str(error))
