"""A deployment's names: everything is found again by them, and by one tag."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

APP = "easel"
TAG = "easel"
LONGEST_NAME = 20
# No hyphen: `easel-main-...` must belong to `main` and to nothing else.
_NAME = re.compile(rf"[a-z][a-z0-9]{{0,{LONGEST_NAME - 1}}}")
_OWNED = re.compile(r"easel-([a-z][a-z0-9]*)(?:-.*)?")


class BadName(ValueError):
    """A deployment cannot be called that."""


@dataclass(frozen=True)
class Deployment:
    """One of possibly several Easels in an account and region.

    Args:
        name: a lower-case letter, then lower-case letters and digits; at most 20 characters.
        account: the account's twelve digits.
        region: such as us-east-1.
        partition: aws, aws-cn or aws-us-gov.

    Raises:
        BadName: if the name has another form.
    """

    name: str
    account: str
    region: str
    partition: str = "aws"

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def prefix(self) -> str:
        """What every name of this deployment begins with."""
        return f"{APP}-{self.name}"

    @property
    def stack(self) -> str:
        """The CloudFormation stack."""
        return self.prefix

    @property
    def function(self) -> str:
        """The gateway's Lambda function, as chalice calls it for this stage."""
        return self.prefix

    @property
    def bucket(self) -> str:
        """The S3 bucket; at most 59 of 63 characters."""
        return f"{self.prefix}-{self.account}-{self.region}"

    @property
    def endpoint_role(self) -> str:
        """The ARN of the role that the model runs as; roles are global, so the region is in it."""
        return self._role("endpoint")

    @property
    def gateway_role(self) -> str:
        """The ARN of the role that the Lambda runs as."""
        return self._role("gateway")

    def _role(self, what: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role/{self.prefix}-{what}-{self.region}"

    @property
    def tags(self) -> list[dict[str, str]]:
        """The tag on everything, in the form that most services take."""
        return [{"Key": TAG, "Value": self.name}]

    def endpoint(self, model: str) -> str:
        """Return a model's endpoint's name."""
        return f"{self.prefix}-{model}"

    def model_of(self, endpoint: str) -> str:
        """Return the model behind an endpoint of this deployment."""
        return endpoint.removeprefix(f"{self.prefix}-")

    def versioned(self, model: str, content: Any) -> str:
        """Return the name of something that cannot be changed once it is there.

        It ends in a hash of its content, so that the same content has the same name and other
        content another.
        """
        return f"{self.endpoint(model)}-{digest(content)}"

    def is_version_of(self, name: str, model: str) -> bool:
        """Whether `name` is that of a model or endpoint configuration behind `model`."""
        return bool(re.fullmatch(rf"{re.escape(self.endpoint(model))}-[0-9a-f]{{8}}", name))

    def owns(self, name: str) -> bool:
        """Whether something with this name belongs to this deployment."""
        return owner(name) == self.name


def check_name(name: str) -> str:
    """Return a deployment's name.

    Raises:
        BadName: if it has the wrong form.
    """
    if not _NAME.fullmatch(name):
        raise BadName(
            f"{name!r} cannot be a deployment's name: a lower-case letter, then lower-case letters"
            f" and digits, {LONGEST_NAME} at most; for example main"
        )
    return name


def owner(name: str) -> str | None:
    """Return the deployment that something with this name belongs to, if it is Easel's at all."""
    found = _OWNED.fullmatch(name)
    return found.group(1) if found else None


def digest(content: Any) -> str:
    """Return 8 hexadecimal digits that stand for anything JSON can hold."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
