"""How long visitors wait, and how many instances run meanwhile: a small discrete-event simulation.

Pictures are asked for at random moments, evenly over day and night (a Poisson process), and each
takes the same time on one GPU, first come, first served. Either the number of instances is fixed,
or it follows the policies that `aws/scaling.py` installs, as `autoscaling.py` models them. They are
read from the calls that installing them makes, not written down a second time.

A new instance takes five minutes, and is paid for from its request on.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import takewhile
from typing import Any

from endpoint.aws.scaling import Scaling
from endpoint.costs.autoscaling import COLD_START_SECONDS, MINUTE, Minute, Policies, State, step

# The gateway's requests leave SageMaker's queue after that (chalicelib/aws/sagemaker.py).
QUEUE_SECONDS = 1_800.0


class _Listener:
    """Replaces AWS's clients and records the parameters of every call."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Callable[..., dict[str, str]]:
        def call(**arguments: Any) -> dict[str, str]:
            self.asked.append((operation, arguments))
            return {"PolicyARN": operation}

        return call

    def find(self, key: str) -> dict[str, Any]:
        """Return what was given under that name, or the arguments that have it."""
        found = next(arguments for _, arguments in self.asked if key in arguments)
        return found[key] if isinstance(found[key], dict) else found


def installed(most: int) -> Policies:
    """Return the policies that `Scaling.ensure` installs for an endpoint of up to `most`."""
    listener = _Listener()
    Scaling(listener, listener).ensure("an-endpoint", most, "a-deployment")
    limits = listener.find("MaxCapacity")
    return Policies.read(
        limits["MinCapacity"],
        limits["MaxCapacity"],
        listener.find("TargetTrackingScalingPolicyConfiguration"),
        listener.find("StepScalingPolicyConfiguration"),
        listener.find("EvaluationPeriods"),
    )


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        waits: seconds from each question to its picture, in the order of the questions.
        lost: how many waited in the queue for longer than they live.
        instance_seconds: what is paid for.
        in_system: how many pictures waited or were painted, on average over time.
        seconds: how long it all took.
    """

    waits: tuple[float, ...]
    lost: int
    instance_seconds: float
    in_system: float
    seconds: float

    @property
    def instances(self) -> float:
        """How many there were, on average over time."""
        return self.instance_seconds / self.seconds

    @property
    def median(self) -> float:
        return statistics.median(self.waits) if self.waits else math.inf

    def percentile(self, percent: int) -> float:
        """Return the seconds that `percent` of 100 visitors waited at most."""
        if len(self.waits) < 2:
            return self.median
        return statistics.quantiles(self.waits, n=100, method="inclusive")[percent - 1]


def arrivals(per_second: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield random moments up to `seconds`; the same arguments give the same ones."""
    chance, now = random.Random(seed), 0.0  # noqa: S311 - a simulation, no secret

    def moments() -> Iterator[float]:
        nonlocal now
        while True:
            now += chance.expovariate(per_second)
            yield now

    return takewhile(lambda moment: moment <= seconds, moments())


class _Event(IntEnum):
    """In the order in which those of the same moment happen."""

    READY = 0
    DONE = 1
    ASKED = 2
    MINUTE = 3


class Simulation:
    """One endpoint.

    Args:
        painting: seconds for one picture.
        instances: how many there are, at the beginning.
        policies: what changes that; None leaves it as it is.
        start: seconds that a new instance takes.
    """

    def __init__(
        self,
        painting: float,
        instances: int,
        policies: Policies | None = None,
        start: float = COLD_START_SECONDS,
    ) -> None:
        self._painting, self._policies, self._start = painting, policies, start
        self._ready, self._starting, self._busy = instances, 0, 0
        self._queue: deque[float] = deque()
        self._events: list[tuple[float, _Event]] = []
        self._scaling = State()
        self._now = self._paid = self._area = self._minute_area = 0.0
        self._waits: list[float] = []
        self._lost = 0
        self._ticking = False

    def run(self, moments: Iterator[float], seconds: float) -> Outcome:
        """Let visitors ask at these moments, for so many seconds."""
        upcoming = next(moments, None)
        while True:
            self._keep_ticking()
            if upcoming is not None and (not self._events or upcoming <= self._events[0][0]):
                time, event, upcoming = upcoming, _Event.ASKED, next(moments, None)
            elif self._events:
                time, event = heapq.heappop(self._events)
            else:
                time = math.inf
            self._advance(min(time, seconds))
            if time >= seconds:
                return self._outcome(seconds)
            self._happen(event)
            self._paint()

    def _outcome(self, seconds: float) -> Outcome:
        return Outcome(tuple(self._waits), self._lost, self._paid, self._area / seconds, seconds)

    def _keep_ticking(self) -> None:
        """Let minutes pass only while there is something to see in them."""
        alive = self._ready + self._starting + len(self._queue) > 0
        if self._policies is not None and alive and not self._ticking:
            self._ticking = True
            next_minute = (self._now // MINUTE + 1) * MINUTE
            heapq.heappush(self._events, (next_minute, _Event.MINUTE))

    def _advance(self, time: float) -> None:
        passed, self._now = time - self._now, time
        here = (len(self._queue) + self._busy) * passed
        self._area += here
        self._minute_area += here
        self._paid += (self._ready + self._starting) * passed

    def _happen(self, event: _Event) -> None:
        match event:
            case _Event.ASKED:
                self._queue.append(self._now)
            case _Event.DONE:
                self._busy -= 1
            case _Event.READY:
                self._ready, self._starting = self._ready + 1, self._starting - 1
            case _Event.MINUTE:
                self._ticking = False
                self._scale()

    def _paint(self) -> None:
        while self._queue and self._busy < self._ready:
            asked = self._queue.popleft()
            if self._policies is not None and self._now - asked > QUEUE_SECONDS:
                self._lost += 1
                continue
            self._busy += 1
            self._waits.append(self._now - asked + self._painting)
            heapq.heappush(self._events, (self._now + self._painting, _Event.DONE))

    def _scale(self) -> None:
        """Do what the policies do at the end of a minute."""
        if self._policies is None:
            return
        minute = Minute(
            backlog=self._minute_area / MINUTE,
            waiting=bool(self._queue),
            ready=self._ready,
            starting=self._starting,
            busy=self._busy,
        )
        self._minute_area = 0.0
        self._scaling, change = step(self._policies, self._scaling, minute, self._now)
        if change < 0:
            self._ready += change
        else:
            self._starting += change
            for _ in range(change):
                heapq.heappush(self._events, (self._now + self._start, _Event.READY))
