"""Waiting times and running instances of an endpoint: a small discrete-event simulation.

Requests arrive at random, at the same rate day and night (a Poisson process). Each takes the same
time on one GPU, first come, first served. The number of instances is either fixed, or it follows
the policies that `aws/scaling.py` installs, in the model of `autoscaling.py`. The policies are read
from the calls that install them, so that their numbers are stated once.

A new instance takes five minutes to start, and costs money from the moment of its request.
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

# The gateway's requests expire in SageMaker's queue after that (chalicelib/aws/sagemaker.py).
QUEUE_SECONDS = 1_800.0


class _Recorder:
    """Replaces AWS's clients and records the parameters of every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Callable[..., dict[str, str]]:
        def call(**arguments: Any) -> dict[str, str]:
            self.calls.append((operation, arguments))
            return {"PolicyARN": operation}

        return call

    def find(self, key: str) -> dict[str, Any]:
        """Return a parameter of that name; if it is no dict, all parameters of its call."""
        parameters = next(parameters for _, parameters in self.calls if key in parameters)
        return parameters[key] if isinstance(parameters[key], dict) else parameters


def installed(most: int) -> Policies:
    """Return the policies that `Scaling.ensure` installs for an endpoint of up to `most`."""
    recorder = _Recorder()
    Scaling(recorder, recorder).ensure("an-endpoint", most, "a-deployment")
    limits = recorder.find("MaxCapacity")
    return Policies.read(
        limits["MinCapacity"],
        limits["MaxCapacity"],
        recorder.find("TargetTrackingScalingPolicyConfiguration"),
        recorder.find("StepScalingPolicyConfiguration"),
        recorder.find("EvaluationPeriods"),
    )


@dataclass(frozen=True)
class Outcome:
    """The result of a simulation.

    Attributes:
        waits: seconds from each request to its picture, in the order of the requests.
        lost: the number of requests that expired in the queue.
        instance_seconds: the paid time of all instances.
        in_system: the number of requests in the queue or on a GPU, averaged over time.
        seconds: the simulated time.
    """

    waits: tuple[float, ...]
    lost: int
    instance_seconds: float
    in_system: float
    seconds: float

    @property
    def instances(self) -> float:
        """The number of instances, averaged over time."""
        return self.instance_seconds / self.seconds

    @property
    def median(self) -> float:
        return statistics.median(self.waits) if self.waits else math.inf

    def percentile(self, percent: int) -> float:
        """Return the waiting time in seconds that `percent` % of the requests do not exceed."""
        if len(self.waits) < 2:  # too few for statistics.quantiles
            return self.median
        return statistics.quantiles(self.waits, n=100, method="inclusive")[percent - 1]


def arrivals(per_second: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield random moments up to `seconds`; the same arguments give the same ones."""
    rng, now = random.Random(seed), 0.0  # noqa: S311 - a simulation, no secret

    def moments() -> Iterator[float]:
        nonlocal now
        while True:
            now += rng.expovariate(per_second)
            yield now

    return takewhile(lambda moment: moment <= seconds, moments())


class _Event(IntEnum):
    """The kinds of events; at the same moment they happen in this order."""

    READY = 0
    DONE = 1
    REQUESTED = 2
    MINUTE = 3


class Simulation:
    """One endpoint.

    Args:
        service_seconds: the duration of one picture on a GPU.
        instances: their number at the beginning.
        policies: the scaling policies; None for a fixed number of instances.
        start: seconds until a new instance is ready.
    """

    def __init__(
        self,
        service_seconds: float,
        instances: int,
        policies: Policies | None = None,
        start: float = COLD_START_SECONDS,
    ) -> None:
        self._service_seconds = service_seconds
        self._policies, self._start = policies, start
        self._ready, self._starting, self._busy = instances, 0, 0
        self._queue: deque[float] = deque()
        self._events: list[tuple[float, _Event]] = []
        self._scaling = State()
        self._now = self._paid = self._area = self._minute_area = 0.0
        self._waits: list[float] = []
        self._lost = 0
        self._ticking = False

    def run(self, moments: Iterator[float], seconds: float) -> Outcome:
        """Simulate requests at these moments, for `seconds`."""
        upcoming = next(moments, None)
        while True:
            self._keep_ticking()
            if upcoming is not None and (not self._events or upcoming <= self._events[0][0]):
                time, event, upcoming = upcoming, _Event.REQUESTED, next(moments, None)
            elif self._events:
                time, event = heapq.heappop(self._events)
            else:
                time = math.inf
            self._advance(min(time, seconds))
            if time >= seconds:
                return self._outcome(seconds)
            self._handle(event)
            self._serve()

    def _outcome(self, seconds: float) -> Outcome:
        return Outcome(tuple(self._waits), self._lost, self._paid, self._area / seconds, seconds)

    def _keep_ticking(self) -> None:
        """Schedule the next minute, unless the policies have nothing to act on.

        An endpoint at zero instances with an empty queue would otherwise cost an event for each of
        a year's minutes.
        """
        alive = self._ready + self._starting + len(self._queue) > 0
        if self._policies is not None and alive and not self._ticking:
            self._ticking = True
            next_minute = (self._now // MINUTE + 1) * MINUTE
            heapq.heappush(self._events, (next_minute, _Event.MINUTE))

    def _advance(self, time: float) -> None:
        passed, self._now = time - self._now, time
        # The integral of the number in the system over time; its mean is the metric's value.
        area = (len(self._queue) + self._busy) * passed
        self._area += area
        self._minute_area += area
        self._paid += (self._ready + self._starting) * passed

    def _handle(self, event: _Event) -> None:
        match event:
            case _Event.REQUESTED:
                self._queue.append(self._now)
            case _Event.DONE:
                self._busy -= 1
            case _Event.READY:
                self._ready, self._starting = self._ready + 1, self._starting - 1
            case _Event.MINUTE:
                self._ticking = False
                self._scale()

    def _serve(self) -> None:
        while self._queue and self._busy < self._ready:
            requested = self._queue.popleft()
            # Only SageMaker's asynchronous queue has a time limit.
            if self._policies is not None and self._now - requested > QUEUE_SECONDS:
                self._lost += 1
                continue
            self._busy += 1
            self._waits.append(self._now - requested + self._service_seconds)
            heapq.heappush(self._events, (self._now + self._service_seconds, _Event.DONE))

    def _scale(self) -> None:
        """Apply the policies at the end of a minute."""
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
        # Instances stop at once; new ones take their time.
        if change < 0:
            self._ready += change
        else:
            self._starting += change
            for _ in range(change):
                heapq.heappush(self._events, (self._now + self._start, _Event.READY))
