from __future__ import annotations

import inspect
import re

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


def client_error(code):
    return ClientError({"Error": {"Code": code, "Message": "said so"}}, "CreateEndpoint")


@pytest.mark.parametrize(
    ("error", "meaning", "advice"),
    [
        (client_error("ExpiredTokenException"), problems.CredentialsExpired, "aws sso login"),
        (client_error("UnrecognizedClientException"), problems.CredentialsMissing, "--profile"),
        (client_error("AccessDeniedException"), problems.AccessDenied, "permission"),
        (client_error("ResourceLimitExceeded"), problems.QuotaTooSmall, "servicequotas"),
        (client_error("ThrottlingException"), problems.Throttled, "Wait a minute"),
        (client_error("SomethingElse"), problems.AwsError, "continues where it stopped"),
        (NoCredentialsError(), problems.CredentialsMissing, "aws configure"),
        (ProfileNotFound(profile="x"), problems.CredentialsMissing, "--profile"),
        (SSOTokenLoadError(error_msg="x"), problems.CredentialsExpired, "aws sso login"),
        (EndpointConnectionError(endpoint_url="x"), problems.Unreachable, "--region"),
    ],
)
def test_every_aws_error_comes_with_advice(error, meaning, advice):
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
def test_every_failure_reason_of_sagemaker_comes_with_advice(reason, meaning, advice):
    error = failure("easel-main-sd", reason)
    assert type(error) is meaning
    assert reason in str(error)
    assert advice in error.advice


def test_the_docstring_draws_the_tree_of_errors():
    tree = inspect.cleandoc(problems.__doc__ or "").partition("\n\n")[2]
    drawn = re.findall(r"^([│├└─ ]*)(\w+)", tree, re.MULTILINE)
    path: list[str] = []
    branches = set()
    for indent, name in drawn:
        path[len(indent) // 4 :] = [name]
        branches.add((name, path[-2] if len(path) > 1 else "Exception"))
    classes = [item for item in vars(problems).values() if isinstance(item, type)]
    own = [item for item in classes if item.__module__ == problems.__name__]
    assert branches == {(item.__name__, item.__base__.__name__) for item in own}
