"""The emulator's faults: each kind is one function and one entry in a table of this file.

A fault acts at one of three points of an invocation, or on a build of the image, and each has its
table:

    DOOR        before SageMaker Runtime finds the endpoint: an error response, or no response
    CONTAINER   around the model server
    WAY_BACK    on the body of a successful response
    BUILD       when CodeBuild starts a build; the project's name takes the endpoint's place

To add a fault, write its function, add it to its table, and add its row to docs/emulator.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NoReturn, get_args

from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.containers import ContainerResponse, NoResponse
from endpoint.emulator.sagemaker.errors import (
    AccessDenied,
    InternalDependency,
    InternalFailure,
    ModelNotReady,
    PayloadTooLarge,
    Refused,
    RuntimeRefusal,
    ServiceUnavailable,
    Throttled,
)

Rubbish = Literal["html", "truncated", "empty", "mislabelled"]


class CutOff(ConnectionError):
    """The connection ends here; the server closes it without another byte."""


@dataclass(frozen=True)
class Fault:
    """One way to misbehave.

    Attributes:
        kind: a key of one of the tables below.
        times: for how many requests; None means until it is replaced.
        after: how many requests pass before the first one that fails.
        seconds: the delay (slow, silent), or the duration of the body (trickle) or of the build
            (slow-build), on the emulator's clock; slow by 60 or more ends in SageMaker's own
            timeout.
        status: the HTTP status (failing, refused).
        body: the container's response body (failing).
        rubbish: what comes with status 200 in a picture's place (rubbish): html, the true body
            cut in half (truncated), nothing (empty), or the true body as text/plain (mislabelled).
        code: AWS's error code (refused).
        message: AWS's error message (refused), or why the build fails (failed-build).
        extra: further members of the error, such as OriginalStatusCode (refused).
    """

    kind: str
    times: int | None = None
    after: int = 0
    seconds: float = 0.0
    status: int = 500
    body: str = '{"code": 500, "type": "InternalServerException", "message": "Worker died."}'
    rubbish: Rubbish = "html"
    code: str = "InternalFailure"
    message: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in (*DOOR, *CONTAINER, *WAY_BACK, *BUILD):
            raise ValueError(f"no such fault: {self.kind}")
        if self.rubbish not in get_args(Rubbish):
            raise ValueError(f"no such rubbish: {self.rubbish}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fault:
        """Return the fault that JSON describes; raises ValueError for unknown members."""
        unknown = set(data) - {member.name for member in fields(cls)}
        if unknown or "kind" not in data:
            raise ValueError(f"a fault has a kind and no {', '.join(sorted(unknown))}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# --- At the door: each raises a RuntimeRefusal or CutOff --------------------------------------


def _refuse(kind: type[RuntimeRefusal], message: str) -> Callable[[Fault, Clock], NoReturn]:
    def refuse(_: Fault, __: Clock) -> NoReturn:
        raise kind(message)

    return refuse


def _refused(fault: Fault, _: Clock) -> NoReturn:
    raise Refused(fault.status, fault.code, fault.message, fault.extra)


def _cut(_: Fault, __: Clock) -> NoReturn:
    raise CutOff


def _silent(fault: Fault, clock: Clock) -> NoReturn:
    clock.sleep(fault.seconds)
    raise CutOff


DOOR: Mapping[str, Callable[[Fault, Clock], NoReturn]] = {
    "throttled": _refuse(Throttled, "Rate exceeded"),
    "denied": _refuse(
        AccessDenied,
        "User: arn:aws:sts::123456789012:assumed-role/easel/easel is not authorized to perform: "
        "sagemaker:InvokeEndpoint because no identity-based policy allows the "
        "sagemaker:InvokeEndpoint action",
    ),
    "unavailable": _refuse(ServiceUnavailable, "The service is unavailable. Try your call again."),
    "failed": _refuse(InternalFailure, "An internal failure occurred."),
    "dependency": _refuse(InternalDependency, "An internal dependency failed."),
    "cold": _refuse(ModelNotReady, "The model is not ready for inference yet."),
    "too-large": _refuse(PayloadTooLarge, "HTTP content length exceeded."),
    "refused": _refused,
    "cut": _cut,
    "silent": _silent,
}

# --- Around the container: each gets the seconds that are left, and a function that asks it ----

Ask = Callable[[float], ContainerResponse]


def _slow(fault: Fault, clock: Clock, seconds: float, ask: Ask) -> ContainerResponse:
    clock.sleep(min(fault.seconds, seconds))
    if fault.seconds >= seconds:
        raise NoResponse("too late", late=True)
    return ask(seconds - fault.seconds)


def _failing(fault: Fault, _: Clock, __: float, ___: Ask) -> ContainerResponse:
    return ContainerResponse(fault.status, {}, fault.body.encode("utf-8"))


_HTML = b"<html><body><h1>It works!</h1></body></html>"


def _rubbish(fault: Fault, _: Clock, seconds: float, ask: Ask) -> ContainerResponse:
    answer = ask(seconds)
    headers = dict(answer.headers)
    match fault.rubbish:
        case "html":
            return ContainerResponse(200, {**headers, "content-type": "text/html"}, _HTML)
        case "truncated":
            return ContainerResponse(200, headers, answer.body[: len(answer.body) // 2])
        case "empty":
            return ContainerResponse(200, headers, b"")
        case "mislabelled":
            return ContainerResponse(200, {**headers, "content-type": "text/plain"}, answer.body)


CONTAINER: Mapping[str, Callable[[Fault, Clock, float, Ask], ContainerResponse]] = {
    "slow": _slow,
    "failing": _failing,
    "rubbish": _rubbish,
}

# --- On the way back: each yields the body's parts ---------------------------------------------


def _trickle(fault: Fault, clock: Clock, body: bytes, parts: int = 20) -> Iterator[bytes]:
    size = max(1, -(-len(body) // parts))
    for start in range(0, len(body), size):
        clock.sleep(fault.seconds / parts)
        yield body[start : start + size]


def _cut_body(_: Fault, __: Clock, body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    # Let what was written leave before the connection is cut.
    time.sleep(0.05)
    raise CutOff


WAY_BACK: Mapping[str, Callable[[Fault, Clock, bytes], Iterator[bytes]]] = {
    "trickle": _trickle,
    "cut-body": _cut_body,
}


# --- On a build: each returns what differs from a build that succeeds at once, by the names of
# --- the fields of `moto_.codebuild.Builds`

BUILD: Mapping[str, Callable[[Fault], dict[str, Any]]] = {
    "failed-build": lambda fault: {"fails_with": fault.message or "exit status 1"},
    "oci-image": lambda _: {"media_type": "application/vnd.oci.image.manifest.v1+json"},
    "slow-build": lambda fault: {"seconds": fault.seconds},
}


@dataclass
class _Active:
    """A fault that is switched on, and what is left of its counts."""

    fault: Fault
    times: int | None
    after: int

    @property
    def is_over(self) -> bool:
        return self.times is not None and self.times <= 0

    def fires(self) -> bool:
        if self.is_over:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """The faults that are switched on, by endpoint or project; by operation in tests of scripts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: dict[str, list[_Active]] = {}

    def switch(self, endpoint: str, faults: list[Fault]) -> None:
        """Replace an endpoint's faults; an empty list makes it healthy again."""
        with self._lock:
            self._active[endpoint] = [_Active(fault, fault.times, fault.after) for fault in faults]

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._active.clear()

    def get(self, endpoint: str) -> list[Fault]:
        """Return the faults that are still on."""
        with self._lock:
            active = self._active.get(endpoint, [])
            return [item.fault for item in active if not item.is_over]

    def take(self, endpoint: str, kinds: Collection[str]) -> Fault | None:
        """Return the first fault of these kinds that is on, and count it as used once."""
        with self._lock:
            for item in self._active.get(endpoint, []):
                if item.fault.kind in kinds and item.fires():
                    return item.fault
        return None

    def at_door(self, endpoint: str, clock: Clock, *, asynchronous: bool) -> None:
        """Raise what a fault at the door raises, if one is on."""
        # An asynchronous endpoint accepts requests while it is cold; its queue waits.
        kinds = DOOR.keys() - {"cold"} if asynchronous else DOOR.keys()
        fault = self.take(endpoint, kinds)
        if fault is not None:
            DOOR[fault.kind](fault, clock)

    def holds_queue(self, endpoint: str) -> bool:
        """Whether an asynchronous endpoint's queue waits because of a fault."""
        return any(fault.kind == "cold" for fault in self.get(endpoint))

    def in_container(
        self, endpoint: str, clock: Clock, seconds: float, ask: Ask
    ) -> ContainerResponse:
        """Return the container's response, changed by a fault if one is on; raises NoResponse."""
        fault = self.take(endpoint, CONTAINER)
        return ask(seconds) if fault is None else CONTAINER[fault.kind](fault, clock, seconds, ask)

    def on_build(self, project: str) -> dict[str, Any]:
        """Return how a build that is started differs from others; nothing if no fault is on."""
        faults = [self.take(project, [kind]) for kind in BUILD]
        return {k: v for fault in faults if fault for k, v in BUILD[fault.kind](fault).items()}

    def on_way_back(self, endpoint: str, clock: Clock, body: bytes) -> Iterator[bytes] | None:
        """Return the body's parts as a fault sends them; None if no fault is on."""
        fault = self.take(endpoint, WAY_BACK)
        return None if fault is None else WAY_BACK[fault.kind](fault, clock, body)
