"""How long visitors wait, and how many instances run meanwhile: a small discrete-event simulation.

Pictures are asked for at random moments, evenly over day and night (a Poisson process), and each
takes the same time on one GPU, first come, first served. Either a fixed number of instances is
there, or they come and go as the policies say that `services/scaling.py` installs: those are not
written down here again, but asked of that very code.

What AWS adds to the policies, and what is assumed where it does not say:

* an alarm sees a minute when it is over, and acts a minute later
* target tracking acts on three minutes above its target, or fifteen below nine tenths of it, and
  then makes the capacity proportional to what it saw, rounded up
* a new instance takes five minutes, and is paid for from its request on
https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import takewhile
from typing import Any

from endpoint.aws.scaling import Scaling

START_SECONDS = 300.0
MINUTE = 60.0
_CROWDED_MINUTES, _IDLE_MINUTES, _WELL_BELOW = 3, 15, 0.9
_DELAY_MINUTES = 1
# The gateway's requests leave SageMaker's queue after that (chalicelib/aws/sagemaker.py: Life).
QUEUE_SECONDS = 1_800.0


@dataclass(frozen=True)
class Policies:
    """What is installed for an asynchronous endpoint; times in seconds.

    Attributes:
        least, most: how many instances there may be.
        target: the backlog for each instance that target tracking aims at.
        wake_seconds: how long the alarm must see a backlog without an instance.
        wake_step: how many instances it adds.
    """

    least: int
    most: int
    target: float
    scale_in_cooldown: float
    scale_out_cooldown: float
    wake_seconds: float
    wake_step: int
    wake_cooldown: float


class _Listener:
    """In the place of AWS's clients: remembers what each operation was asked for."""

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
    limits, alarm = listener.find("MaxCapacity"), listener.find("EvaluationPeriods")
    tracking = listener.find("TargetTrackingScalingPolicyConfiguration")
    step = listener.find("StepScalingPolicyConfiguration")
    return Policies(
        least=limits["MinCapacity"],
        most=limits["MaxCapacity"],
        target=tracking["TargetValue"],
        scale_in_cooldown=tracking["ScaleInCooldown"],
        scale_out_cooldown=tracking["ScaleOutCooldown"],
        wake_seconds=alarm["Period"] * alarm["DatapointsToAlarm"],
        wake_step=step["StepAdjustments"][0]["ScalingAdjustment"],
        wake_cooldown=step["Cooldown"],
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


@dataclass
class _Seen:
    """What the alarms have seen, in minutes, and when they last acted, in seconds."""

    stuck: int = 0
    crowded: int = 0
    idle: int = 0
    out: float = -math.inf
    inward: float = -math.inf
    loads: deque[float] = field(default_factory=lambda: deque(maxlen=_IDLE_MINUTES))


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
        start: float = START_SECONDS,
    ) -> None:
        self._painting, self._policies, self._start = painting, policies, start
        self._ready, self._starting, self._busy = instances, 0, 0
        self._queue: deque[float] = deque()
        self._events: list[tuple[float, _Event]] = []
        self._seen = _Seen()
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
                self._look()

    def _paint(self) -> None:
        while self._queue and self._busy < self._ready:
            asked = self._queue.popleft()
            if self._policies is not None and self._now - asked > QUEUE_SECONDS:
                self._lost += 1
                continue
            self._busy += 1
            self._waits.append(self._now - asked + self._painting)
            heapq.heappush(self._events, (self._now + self._painting, _Event.DONE))

    # --- The policies -----------------------------------------------------------------------------

    def _look(self) -> None:
        """See what the alarms see of the last minute, and do what the policies then do."""
        policies, seen = self._policies, self._seen
        if policies is None:
            return
        load, self._minute_area = self._minute_area / MINUTE, 0.0
        each = load / self._ready if self._ready else 0.0
        seen.loads.append(load)
        seen.stuck = seen.stuck + 1 if not self._ready and self._queue else 0
        seen.crowded = seen.crowded + 1 if self._ready and each > policies.target else 0
        below = each < policies.target * _WELL_BELOW
        seen.idle = seen.idle + 1 if self._ready and below else 0
        if seen.stuck >= policies.wake_seconds / MINUTE + _DELAY_MINUTES:
            self._wake(policies)
        elif seen.crowded >= _CROWDED_MINUTES + _DELAY_MINUTES:
            self._scale_out(policies, load)
        elif seen.idle >= _IDLE_MINUTES + _DELAY_MINUTES:
            self._scale_in(policies)

    def _wake(self, policies: Policies) -> None:
        if self._now - self._seen.out >= policies.wake_cooldown:
            self._add(min(policies.wake_step, policies.most - self._starting))

    def _scale_out(self, policies: Policies, load: float) -> None:
        if self._now - self._seen.out >= policies.scale_out_cooldown:
            wanted = min(math.ceil(load / policies.target), policies.most)
            self._add(wanted - self._ready - self._starting)

    def _scale_in(self, policies: Policies) -> None:
        """Take away what the last fifteen minutes did not need; a picture is finished first."""
        if self._now - max(self._seen.inward, self._seen.out) < policies.scale_in_cooldown:
            return
        needed = math.ceil(statistics.fmean(self._seen.loads) / policies.target)
        left = max(policies.least, needed, self._busy)
        if left < self._ready:
            self._ready, self._seen.inward = left, self._now

    def _add(self, count: int) -> None:
        if count <= 0:
            return
        self._starting += count
        self._seen.out = self._now
        for _ in range(count):
            heapq.heappush(self._events, (self._now + self._start, _Event.READY))
