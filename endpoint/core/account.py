"""An AWS account in one region: its clients, each created when it is first needed."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

from endpoint.core.clock import Clock
from endpoint.core.local_addresses import go_direct
from endpoint.core.problems import BadArgument, translated

# Throttling is routine on AWS: standard mode waits 1, 2, 4 ... up to 20 s between its attempts.
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 7},
    connect_timeout=10,
    read_timeout=90,
    max_pool_connections=20,
    user_agent_extra="easel",
)
# A retried invocation would generate the picture twice, so there is no retry. SageMaker ends an
# invocation after 60 s; the read timeout lets its own error arrive first.
_RUNTIME_CONFIG = Config(
    retries={"total_max_attempts": 1},
    connect_timeout=10,
    read_timeout=70,
    user_agent_extra="easel",
)
# Of botocore's variables, those that say where AWS is and not who is calling.
_NOT_CREDENTIALS = (
    "AWS_CA_BUNDLE",
    "AWS_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_",
)


def open_session(profile: str | None, region: str | None) -> boto3.Session:
    """Return a boto3 session.

    Raises:
        CredentialsMissing: if the profile does not exist.
    """
    go_direct(os.environ)  # for an emulated AWS on this machine
    with translated():
        return boto3.Session(profile_name=profile, region_name=region)


class Account:
    """The account that a session's credentials belong to, in the session's region.

    Raises:
        BadArgument: if the session has no region.
    """

    def __init__(self, session: Any, clock: Clock) -> None:
        if not session.region_name:
            raise BadArgument("No region is set.", "Pass --region, for example --region us-east-1.")
        self.session = session
        self.clock = clock
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str:
        """The region's name, such as us-east-1."""
        return str(self.session.region_name)

    @cached_property
    def partition(self) -> str:
        """The partition: aws, aws-cn or aws-us-gov."""
        return str(self.session.get_partition_for_region(self.region))

    @cached_property
    def id(self) -> str:
        """The account's twelve digits; the first access calls STS."""
        return str(self.caller["Account"])

    @cached_property
    def caller(self) -> dict[str, Any]:
        """The identity that the credentials belong to, as STS returns it."""
        identity: dict[str, Any] = self.client("sts").get_caller_identity()
        return identity

    def child_environment(self) -> dict[str, str]:
        """Return the environment for a program that uses these credentials and this region.

        A profile alone would not do: botocore prefers access keys in the environment to it, and a
        second login with MFA would ask for another code.
        """
        credentials = self.session.get_credentials().get_frozen_credentials()
        given = {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": credentials.token,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AWS_") or name.startswith(_NOT_CREDENTIALS)
        }
        return kept | {name: value for name, value in given.items() if value}

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service."""
        if service not in self._clients:
            config = _RUNTIME_CONFIG if service == "sagemaker-runtime" else _CONFIG
            self._clients[service] = self.session.client(service, config=config)
        return self._clients[service]
