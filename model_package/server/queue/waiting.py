"""The requests that wait, bounded by the seconds that they are expected to take."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import Refused, ServerError, too_slow
from .job import Job, Stage

# SageMaker's longest invocation: the bound for callers that state no deadline.
LONGEST_SECONDS = 3600.0
# A request that takes too long by itself is not worth another try soon.
_TOO_LONG_SECONDS = 60.0
# How many later requests of other kinds can begin before one for which there is no room yet.
_MOST_OVERTAKEN = 8
# The history that the pace remembers, in seconds of generating.
_HISTORY_SECONDS = 60.0


class Pace:
    """How fast requests really are, against what each is expected to take alone.

    Requests that are generated together take less time in sum, and each takes longer.

    Args:
        prior: seconds in which they were as fast as expected, so that one slow step says little.
    """

    def __init__(self, prior: float = 10.0) -> None:
        self._busy = self._work = prior
        self._stretch = 1.0

    def worked(self, seconds: float) -> None:
        """Count a part of the expected seconds of a request as done."""
        self._work += seconds

    def spent(self, seconds: float) -> None:
        """Count time in which the engine generated."""
        self._busy += seconds
        if self._busy > _HISTORY_SECONDS:
            self._busy, self._work = self._busy / 2, self._work / 2

    def finished(self, expected: float, took: float) -> None:
        """Count a request that was generated to its end."""
        if expected > 0:
            self._stretch += 0.2 * (min(max(took / expected, 0.1), 100.0) - self._stretch)

    def until_done(self, ahead: float, own: float, *, alone: bool) -> float:
        """Return in how many seconds a request is finished.

        Args:
            ahead: the expected seconds of what is being generated and what waits before it.
            own: its own.
            alone: whether nothing is.
        """
        shared = self._busy / self._work if self._work > 0 and self._busy > 0 else 1.0
        together = (ahead + own) * min(max(shared, 0.05), 20.0)
        return max(together, own if alone else own * self._stretch)


class Waiting:
    """The requests that are accepted and not finished.

    The thread of HTTP adds and withdraws requests, the worker takes them.

    Args:
        seconds: how long a request is expected to take alone.
        progressed: called after each step of a request.
        clock: seconds that never jump.
    """

    def __init__(
        self,
        seconds: Callable[[Any], float],
        progressed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._progressed, self._clock = seconds, progressed, clock
        self._changed = threading.Condition(threading.RLock())
        self._jobs: list[Job] = []
        self._generating: list[Job] = []
        self._stop_by = math.inf
        self._closed: Callable[[], ServerError] | None = None
        self.pace = Pace()

    def put(self, job: Job) -> None:
        """Accept a request.

        Raises:
            ServerError: if it cannot be finished in time, or nothing is accepted any more.
        """
        with self._changed:
            if self._closed is not None:
                raise self._closed()
            if job.deadline <= self._clock():
                raise too_slow()
            job.seconds = self._seconds(job.request)
            job.on_progress = lambda share: self._worked(share * job.seconds)
            ahead = self._ahead(self._jobs)
            if self._late(job, ahead):
                raise self._busy(job, ahead)
            self._jobs.append(job)
            self._changed.notify()

    def _worked(self, seconds: float) -> None:
        self.pace.worked(seconds)
        self._progressed()

    def take(self, fits: Callable[[Any], bool], *, wait: bool) -> Job | None:
        """Return the next request that fits, in the order of arrival; it counts as begun.

        Args:
            fits: whether the engine has room for a request.
            wait: whether to wait for one.
        """
        with self._changed:
            while True:
                job = self._next(fits)
                if job is not None:
                    self._jobs.remove(job)
                    self._generating.append(job)
                    job.begin()
                    return job
                if not wait:
                    return None
                self._changed.wait()

    def _next(self, fits: Callable[[Any], bool]) -> Job | None:
        passed: list[Job] = []
        for job in self._jobs:
            if fits(job.request):
                for earlier in passed:
                    earlier.overtaken += 1
                return job
            if job.overtaken >= _MOST_OVERTAKEN:
                return None  # until there is room for it
            passed.append(job)
        return None

    def finish(self, job: Job, result: Any) -> None:
        """Deliver the result of a request that was taken."""
        with self._changed:
            if job in self._generating:
                self._generating.remove(job)
                self.pace.worked((1 - job.share) * job.seconds)
        if job.finish(result) and not isinstance(result, Exception):
            self.pace.finished(job.seconds, job.finished - job.began)

    def withdraw(self, job: Job) -> None:
        """Drop a request whose caller has left; one in progress stops at its next step."""
        job.leave()
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                job.finish(None)

    def revise(self) -> None:
        """Refuse what waits and cannot be finished in time as it turns out."""
        refused: list[tuple[Job, ServerError]] = []
        with self._changed:
            kept: list[Job] = []
            for job in self._jobs:
                ahead = self._ahead(kept)
                job.seconds = self._seconds(job.request)
                if self._late(job, ahead):
                    refused.append((job, self._busy(job, ahead)))
                else:
                    kept.append(job)
            self._jobs = kept
        for job, error in refused:
            job.finish(error)

    def close(self, reason: Callable[[], ServerError], stop_by: float = math.inf) -> None:
        """Accept nothing any more, and keep only what can be finished by `stop_by`."""
        with self._changed:
            self._closed, self._stop_by = reason, stop_by
        self.revise()

    def give_up(self, job: Job) -> ServerError:
        """Withdraw a request that nobody can wait for any longer; return why."""
        with self._changed:
            if job in self._jobs:
                before = self._jobs[: self._jobs.index(job)]
                reason = self._busy(job, self._ahead(before))
            else:
                reason = too_slow()
        self.withdraw(job)
        return reason

    def refuse_all(self, reason: Callable[[], ServerError]) -> None:
        """Answer everything that is not finished, also what is being generated."""
        with self._changed:
            jobs, self._jobs = [*self._generating, *self._jobs], []
        for job in jobs:
            job.leave()
            job.finish(reason())

    @property
    def counts(self) -> tuple[int, int]:
        """How many requests wait, and how many are being generated."""
        with self._changed:
            return len(self._jobs), len(self._generating)

    @property
    def seconds(self) -> float:
        """In how many seconds all that was accepted is expected to be finished."""
        with self._changed:
            ahead = self._ahead(self._jobs)
            return self.pace.until_done(ahead, 0.0, alone=ahead == 0)

    @property
    def oldest(self) -> float:
        """How many seconds the first request has been waiting."""
        with self._changed:
            return self._clock() - self._jobs[0].arrived if self._jobs else 0.0

    def seconds_left(self, job: Job) -> float | None:
        """Return in how many seconds a request is expected to be finished; None if it is."""
        with self._changed:
            if job.stage is Stage.DONE:
                return None
            if job in self._generating:
                left = job.seconds * (1 - job.share)
                return self.pace.until_done(0.0, left, alone=len(self._generating) == 1)
            before = self._jobs[: self._jobs.index(job)] if job in self._jobs else []
            return self._until_done(job, self._ahead(before))

    def _ahead(self, jobs: Iterable[Job]) -> float:
        """Return the expected seconds of what is being generated, and of `jobs`."""
        generating = sum(job.seconds * (1 - job.share) for job in self._generating)
        return generating + sum(job.seconds for job in jobs)

    def _until_done(self, job: Job, ahead: float) -> float:
        alone = not self._generating and not ahead
        return self.pace.until_done(ahead, job.seconds, alone=alone)

    def _late(self, job: Job, ahead: float) -> bool:
        """Whether a request, with so much before it, is finished after its caller has left."""
        now = self._clock()
        patience = min(job.deadline, self._stop_by) - now
        return self._until_done(job, ahead) > min(patience, LONGEST_SECONDS)

    def _busy(self, job: Job, ahead: float) -> ServerError:
        if self._closed is not None:
            return self._closed()
        # The same request, with as much time as this one had, is accepted once the rest has passed.
        patience = min(job.deadline - job.arrived, LONGEST_SECONDS)
        if self.pace.until_done(0.0, job.seconds, alone=True) > patience:
            message = "The picture would not be finished in time; request fewer steps or pixels."
            return Refused("busy", message, _TOO_LONG_SECONDS)
        message = "The queue is full: the picture would not be finished in time."
        return Refused("busy", message, self._until_done(job, ahead) - patience)
