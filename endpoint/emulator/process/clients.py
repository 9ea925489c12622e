"""boto3 clients that reach the emulator and nothing else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, MutableMapping
from typing import Any

import boto3  # type: ignore[import-untyped,unused-ignore]
import botocore.session  # type: ignore[import-untyped,unused-ignore]
from botocore.config import Config  # type: ignore[import-untyped,unused-ignore]

# moto accepts any; real credentials must not even be searched for.
FAKE_CREDENTIALS = {
    "aws_access_key_id": "easel-emulator",
    "aws_secret_access_key": "easel-emulator",
}


def environment(url: str, region: str) -> dict[str, str]:
    """Return the variables with which boto3, unchanged, reaches the emulator at `url`.

    They replace all other AWS_* variables; see `forget_aws`.
    """
    return {
        **_NO_FILES,
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "AWS_ACCESS_KEY_ID": FAKE_CREDENTIALS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": FAKE_CREDENTIALS["aws_secret_access_key"],
        "AWS_EC2_METADATA_DISABLED": "true",
    }


# A profile or an endpoint that is configured for real AWS must not reach the emulator's children,
# and the emulator's calls must never reach real AWS.
_NO_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def forget_aws(variables: MutableMapping[str, str]) -> None:
    """Remove every setting of an AWS account, profile or endpoint from an environment.

    Moto needs that too: it makes boto3 sessions of its own while it answers.
    """
    for name in [name for name in variables if name.startswith("AWS_")]:
        del variables[name]
    variables.update(_NO_FILES)


def _session() -> Any:
    nothing: dict[str, Any] = {
        "profile": (None, [], None, None),
        "config_file": (None, [], os.devnull, None),
        "credentials_file": (None, [], os.devnull, None),
    }
    session = botocore.session.Session(session_vars=nothing)
    return boto3.session.Session(botocore_session=session, **FAKE_CREDENTIALS)


class Clients:
    """boto3 clients by service and region, each created once.

    Args:
        url: returns the emulator's address; called when a client is first needed.
        key: the access key's id, by which tests tell callers apart.
    """

    def __init__(
        self, url: Callable[[], str], key: str = FAKE_CREDENTIALS["aws_access_key_id"]
    ) -> None:
        self._url, self._key = url, key
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], Any] = {}

    def get(self, service: str, region: str) -> Any:
        """Return the client; it never retries a call, and addresses S3 buckets by path."""
        with self._lock:
            key = (service, region)
            if key not in self._made:
                self._made[key] = _session().client(
                    service,
                    region_name=region,
                    aws_access_key_id=self._key,
                    aws_secret_access_key=FAKE_CREDENTIALS["aws_secret_access_key"],
                    endpoint_url=self._url(),
                    config=Config(
                        retries={"total_max_attempts": 1},
                        # Longer than the 60 s after which SageMaker answers by itself.
                        read_timeout=70,
                        # Not by a proxy that the environment configures.
                        proxies={},
                        # A bucket's name cannot be a subdomain of an IP address.
                        s3={"addressing_style": "path"},
                    ),
                )
            return self._made[key]
