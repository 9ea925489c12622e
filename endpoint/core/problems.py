"""What can go wrong with an endpoint's context, each with what to do about it.

ScriptError                     the script ends with exit code 1
Declined                   the person said no, or could not be asked
BadArgument               the command line does not fit
AwsError                AWS refused or failed
CredentialsMissing
CredentialsExpired
AccessDenied
QuotaTooSmall
Throttled
Unreachable
StackFailed               CloudFormation rolled back
EndpointFailed            SageMaker gave up
NoCapacity
NeverHealthy            the container did not answer, or answers with errors
TookTooLong
UploadFailed
SomethingLeft             a deletion is not complete
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
    """A failure that a person can do something about.

    Attributes:
        advice: what to do, in one or two sentences.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class Declined(ScriptError):
    """Nothing was done, because the person did not agree."""


class BadArgument(ScriptError):
    """An option has a value that cannot be."""


class AwsError(ScriptError):
    """AWS refused or failed a call."""


class CredentialsMissing(AwsError):
    """boto3 found no credentials."""


class CredentialsExpired(AwsError):
    """The credentials were good once."""


class AccessDenied(AwsError):
    """The caller may not do this."""


class QuotaTooSmall(AwsError):
    """The account may not have that many instances."""


class Throttled(AwsError):
    """AWS asked for patience, several times."""


class Unreachable(AwsError):
    """No answer from AWS."""


class StackFailed(ScriptError):
    """CloudFormation could not make or delete the infrastructure."""


class EndpointFailed(ScriptError):
    """SageMaker gave an endpoint up."""


class NoCapacity(EndpointFailed):
    """AWS has no free instance of the type."""


class NeverHealthy(EndpointFailed):
    """The container does not serve pictures."""


class TookTooLong(ScriptError):
    """A wait ended without the expected state."""


class UploadFailed(ScriptError):
    """A file did not get into the bucket."""


class SomethingLeft(ScriptError):
    """A deletion left something that exists, and may cost money."""


AGAIN = "Then run the same command again: it continues where it stopped."

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_INVALID = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "AuthFailure",
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "InvalidSignatureException",
}
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
        AwsError: in the place of any error of botocore's.
    """
    try:
        yield
    except ClientError as error:
        raise from_client_error(error) from error
    except BotoCoreError as error:
        raise _from_botocore(error) from error


def code_of(error: ClientError) -> str:
    """Return the error code of an AWS error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """Return the message of an AWS error."""
    return str(error.response.get("Error", {}).get("Message", ""))


def from_client_error(error: ClientError) -> AwsError:
    """Return what an error response of AWS means."""
    code, said = code_of(error), f"{error.operation_name}: {message_of(error) or code_of(error)}"
    if code in _EXPIRED:
        return _expired(said)
    if code in _INVALID:
        return CredentialsMissing(said, f"Check the access key, or --profile. {AGAIN}")
    if code in _DENIED:
        return AccessDenied(
            said,
            "Ask for this permission, or use --profile with one that has it; `doctor` lists what"
            f" is needed. {AGAIN}",
        )
    if code in _QUOTA:
        return QuotaTooSmall(said, f"{quota_advice()} {AGAIN}")
    if code in _THROTTLED:
        return Throttled(said, f"Wait a minute. {AGAIN}")
    return AwsError(said, "Run the same command again: it continues where it stopped.")


def quota_advice() -> str:
    """Return how a quota for instances is raised."""
    return (
        "Raise the quota `<instance type> for endpoint usage` of Amazon SageMaker"
        " (https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas; `doctor`"
        " prints the call), or take another type with --instance-type."
    )


def _expired(said: str) -> CredentialsExpired:
    return CredentialsExpired(
        said, f"Your credentials have expired: renew them (`aws sso login`, or new keys). {AGAIN}"
    )


def _from_botocore(error: BotoCoreError) -> AwsError:
    if isinstance(error, _SIGNED_OUT):
        return _expired(str(error))
    if isinstance(error, _NO_CREDENTIALS):
        return CredentialsMissing(
            str(error), f"Run `aws configure` or `aws sso login`, or name --profile. {AGAIN}"
        )
    if isinstance(error, _UNREACHABLE):
        return Unreachable(str(error), f"Check the network, and --region. {AGAIN}")
    return AwsError(str(error))
