"""A batch through an endpoint that answers with the picture: in real time, or a gateway's URL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from endpoint.core.clock import Clock
from endpoint.core.problems import AGAIN, TookTooLong
from endpoint.provision.batches.run import Run, Task

# A picture for which there was no room, or that failed by accident, is tried so often, while others
# succeed.
_TRIES = 3
# While none succeeds, the endpoint may still be loading its model.
_MOST_WAITED = 1_200.0  # seconds


class Failed(Exception):
    """A picture failed, and every attempt would fail in the same way.

    Attributes:
        status: as the gateway would respond.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Busy(Exception):
    """A later attempt can succeed.

    Attributes:
        seconds: to wait before it.
        counts: whether it can be the picture's own fault.
    """

    def __init__(self, message: str, seconds: float = 5.0, *, counts: bool = True) -> None:
        super().__init__(message)
        self.seconds, self.counts = seconds, counts


@dataclass
class _Attempts:
    """The attempts at one picture.

    Attributes:
        count: how many failed in a way that can be the picture's own fault.
        since: how many pictures the run had before the first.
    """

    count: int
    since: int


class Direct:
    """Several requests at a time.

    Args:
        run: what is missing.
        work: returns the picture of a task; raises Failed or Busy.
        at_once: how many requests.
        meanwhile: called at least once a second.
    """

    def __init__(
        self,
        run: Run,
        clock: Clock,
        work: Callable[[Task], bytes],
        at_once: int,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._clock, self._work, self._at_once = run, clock, work, at_once
        self._meanwhile = meanwhile
        self._waiting = list(reversed(run.left.values()))
        self._attempts: dict[int, _Attempts] = {}
        self._latest = clock.monotonic()  # when something was settled last

    def paint(self) -> None:
        """Paint everything that is missing.

        Raises:
            TookTooLong: if there has been no picture for twenty minutes.
        """
        running: dict[Future[bytes], Task] = {}
        try:
            self._paint(running)
        finally:
            # When the run ends by an error, the others have been paid as well.
            for future, task in running.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._run.add(task.number, future.result())

    def _paint(self, running: dict[Future[bytes], Task]) -> None:
        with ThreadPoolExecutor(self._at_once) as pool:
            while self._waiting or running:
                while self._waiting and len(running) < self._at_once:
                    task = self._waiting.pop()
                    running[pool.submit(self._work, task)] = task
                done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                pause = max([self._settle(running.pop(one), one) for one in done], default=0.0)
                self._run.show()
                self._meanwhile()
                if pause:
                    self._clock.sleep(pause)

    def _settle(self, task: Task, future: Future[bytes]) -> float:
        """Take what has come of a request; return the seconds to wait before the next."""
        try:
            self._run.add(task.number, future.result())
        except Failed as failed:
            self._run.fail(task.number, str(failed), failed.status)
        except Busy as busy:
            return self._again(task, busy)
        self._latest = self._clock.monotonic()
        return 0.0

    def _again(self, task: Task, busy: Busy) -> float:
        attempts = self._attempts.setdefault(task.number, _Attempts(0, self._run.painted))
        attempts.count += busy.counts
        # While others succeed it is the picture's own fault; the last ones have nobody to compare.
        others = self._run.painted > attempts.since or self._run.failed
        if attempts.count >= (_TRIES if others else 3 * _TRIES) and self._run.painted:
            self._run.fail(task.number, str(busy), 500)
            return 0.0
        if self._clock.monotonic() - self._latest > _MOST_WAITED:
            raise TookTooLong(f"There has been no picture for 20 minutes: {busy}", AGAIN)
        self._waiting.insert(0, task)
        return busy.seconds
