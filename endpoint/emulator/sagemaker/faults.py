"""Switches that make an endpoint misbehave, for tests.

A fault stands at one of three places:

    at the service's door   throttled, denied, unavailable, failed, dependency, cold,
                            too-large, cut, silent
    in the container        slow, failing, rubbish
    on the way back         trickle, cut-body
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from endpoint.emulator.sagemaker.errors import (
    AccessDenied,
    InternalDependency,
    InternalFailure,
    ModelNotReady,
    PayloadTooLarge,
    RuntimeRefusal,
    ServiceUnavailable,
    Throttled,
)

DoorKind = Literal[
    "throttled",
    "denied",
    "unavailable",
    "failed",
    "dependency",
    "cold",
    "too-large",
    "cut",
    "silent",
]
ContainerKind = Literal["slow", "failing", "rubbish"]
WayBackKind = Literal["trickle", "cut-body"]
Rubbish = Literal["html", "truncated", "empty", "mislabelled"]

DOOR: tuple[str, ...] = get_args(DoorKind)
CONTAINER: tuple[str, ...] = get_args(ContainerKind)
WAY_BACK: tuple[str, ...] = get_args(WayBackKind)

_REFUSALS: dict[str, Callable[[], RuntimeRefusal]] = {
    "throttled": lambda: Throttled("Rate exceeded"),
    "denied": lambda: AccessDenied(
        "User: arn:aws:sts::123456789012:assumed-role/easel/easel is not authorized to perform: "
        "sagemaker:InvokeEndpoint because no identity-based policy allows the "
        "sagemaker:InvokeEndpoint action"
    ),
    "unavailable": lambda: ServiceUnavailable("The service is unavailable. Try your call again."),
    "failed": lambda: InternalFailure("An internal failure occurred."),
    "dependency": lambda: InternalDependency("An internal dependency failed."),
    "cold": lambda: ModelNotReady("The model is not ready for inference yet."),
    "too-large": lambda: PayloadTooLarge("HTTP content length exceeded."),
}


@dataclass(frozen=True)
class Fault:
    """One way to misbehave.

    Attributes:
        kind: see the module's table.
        times: for so many requests, then no more; None means until it is cleared.
        seconds: how long (slow, silent, and over what time a body drips with trickle), on the
            emulator's clock; slow by 60 or more ends in SageMaker's own timeout.
        status: the container's HTTP status (failing).
        body: the container's response body (failing).
        rubbish: what comes with status 200 in a picture's place (rubbish): html, the true body
            cut in half (truncated), nothing (empty), or the true body called text/plain
            (mislabelled).
    """

    kind: str
    times: int | None = None
    seconds: float = 0.0
    status: int = 500
    body: str = '{"code": 500, "type": "InternalServerException", "message": "Worker died."}'
    rubbish: Rubbish = "html"

    def __post_init__(self) -> None:
        if self.kind not in (*DOOR, *CONTAINER, *WAY_BACK):
            raise ValueError(f"no such fault: {self.kind}")
        if self.rubbish not in get_args(Rubbish):
            raise ValueError(f"no such rubbish: {self.rubbish}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fault:
        """Return the fault that JSON describes; raises ValueError for what does not exist."""
        unknown = set(data) - {field.name for field in fields(cls)}
        if unknown or "kind" not in data:
            raise ValueError(f"a fault has a kind and no {', '.join(sorted(unknown))}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def refusal(self) -> RuntimeRefusal | None:
        """Return the error response of a fault at the door, if it is one."""
        make = _REFUSALS.get(self.kind)
        return make() if make else None


class Faults:
    """The faults that are switched on, by endpoint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: dict[str, list[Fault]] = {}
        self._left: dict[str, list[int | None]] = {}

    def switch(self, endpoint: str, faults: list[Fault]) -> None:
        """Replace an endpoint's faults; an empty list makes it well again."""
        with self._lock:
            self._on[endpoint] = list(faults)
            self._left[endpoint] = [fault.times for fault in faults]

    def get(self, endpoint: str) -> list[Fault]:
        """Return the faults that are still on."""
        with self._lock:
            pairs = zip(self._on.get(endpoint, []), self._left.get(endpoint, []), strict=True)
            return [fault for fault, left in pairs if left is None or left > 0]

    def take(self, endpoint: str, place: tuple[str, ...]) -> Fault | None:
        """Return the first fault that is on at `place`, and count it as used once."""
        with self._lock:
            left = self._left.get(endpoint, [])
            for index, fault in enumerate(self._on.get(endpoint, [])):
                count = left[index]
                if fault.kind in place and (count is None or count > 0):
                    left[index] = None if count is None else count - 1
                    return fault
        return None
