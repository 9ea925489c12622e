"""What a proof's checks are given, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from botocore.config import Config

from endpoint.cli.context import Context
from endpoint.core.problems import ScriptError
from endpoint.proof.visitor import Visitor


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        context: the deployment.
        real_time: the real-time model's endpoint.
        asynchronous: the asynchronous model's endpoint.
        states: the states of each endpoint that DescribeEndpoint returned, in order.
        gateway: a visitor of the gateway, once there is one.
    """

    context: Context
    real_time: str
    asynchronous: str
    states: Mapping[str, list[str]]
    gateway: Visitor | None = None

    @property
    def visitor(self) -> Visitor:
        """The visitor; raises ScriptError before there is a gateway."""
        if self.gateway is None:
            raise ScriptError("there is no gateway yet")
        return self.gateway

    def client(self, service: str, **config: Any) -> Any:
        """Return a boto3 client of the deployment's account."""
        account = self.context.account
        if not config:
            return account.client(service)
        return account.session.client(service, config=Config(**config))

    @property
    def bucket(self) -> str:
        """The deployment's bucket."""
        return self.context.deployment.bucket


@dataclass(frozen=True)
class Observation:
    """What AWS did.

    Attributes:
        held: whether that is what the belief says.
        words: what it did.
        measured: figures for the record.
    """

    held: bool
    words: str
    measured: Mapping[str, Any] | None = None


Check = Callable[[Subject], Observation]


def changes(states: list[str]) -> list[str]:
    """Return the states without the repetitions of what was there already."""
    return states[:1] + [after for before, after in pairwise(states) if after != before]
