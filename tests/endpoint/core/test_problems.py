from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
)

from endpoint.aws.endpoints import failure
from endpoint.core import problems
from endpoint.core.problems import translated


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "said so"}}, "CreateEndpoint")


@pytest.mark.parametrize(
    ("error", "meaning", "advice"),
    [
        (refusal("ExpiredTokenException"), problems.CredentialsExpired, "aws sso login"),
        (refusal("UnrecognizedClientException"), problems.CredentialsMissing, "--profile"),
        (refusal("AccessDeniedException"), problems.AccessDenied, "permission"),
        (refusal("ResourceLimitExceeded"), problems.QuotaTooSmall, "servicequotas"),
        (refusal("ThrottlingException"), problems.Throttled, "Wait a minute"),
        (refusal("SomethingElse"), problems.AwsError, "continues where it stopped"),
        (NoCredentialsError(), problems.CredentialsMissing, "aws configure"),
        (ProfileNotFound(profile="x"), problems.CredentialsMissing, "--profile"),
        (SSOTokenLoadError(error_msg="x"), problems.CredentialsExpired, "aws sso login"),
        (EndpointConnectionError(endpoint_url="x"), problems.Unreachable, "--region"),
    ],
)
def test_every_failure_of_aws_comes_with_what_to_do(error, meaning, advice):
    with pytest.raises(problems.AwsError) as caught, translated():
        raise error
    assert type(caught.value) is meaning
    assert advice in caught.value.advice
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("reason", "meaning", "advice"),
    [
        ("InsufficientInstanceCapacity", problems.NoCapacity, "--instance-type"),
        ("did not pass the ping health check", problems.NeverHealthy, "--image"),
        ("CannotStartContainerError", problems.NeverHealthy, "--image"),
        ("ResourceLimitExceeded: is 0 Instances", problems.EndpointFailed, "Raise the quota"),
        ("anything else", problems.EndpointFailed, "same command again"),
    ],
)
def test_every_reason_of_sagemakers_comes_with_what_to_do(reason, meaning, advice):
    found = failure("easel-main-sd", reason)
    assert type(found) is meaning
    assert reason in str(found)
    assert advice in found.advice
