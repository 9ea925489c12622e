"""A run of a batch: what is left to do, what has come, and how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from endpoint.core.batches import results
from endpoint.core.batches.lines import Line, Picture
from endpoint.core.clock import Clock
from endpoint.core.console import Console, elapsed
from endpoint.provision.batches.folder import Folder

# Between two lines where they cannot be drawn over one another, as in a CI log.
_QUIET_SECONDS = 60
_BAR = 24  # characters


@dataclass(frozen=True)
class Task:
    """One picture of a batch.

    Attributes:
        number: of the picture in the batch, counted from 0.
        line: whose picture it is.
        picture: with its request.
    """

    number: int
    line: Line
    picture: Picture


class Run:
    """The pictures of a batch that are missing, and those that come.

    Args:
        folder: of the batch.
        console: for the progress.
        clock: for the speed.

    Attributes:
        usd_per_hour: of all instances together, for the cost of the rest; None if it is unknown.
        total: how many pictures the batch has.
        painted: how many have come in this run.
        left: the missing pictures by their numbers, in the order of the file.
    """

    def __init__(self, folder: Folder, console: Console, clock: Clock) -> None:
        self.folder, self._console, self._clock = folder, console, clock
        self.usd_per_hour: float | None = None
        self.left: dict[int, Task] = {}
        self._failures: dict[str, tuple[int, str]] = {}  # by the line's id
        self._missing: dict[str, int] = {}  # pictures of each unfinished line
        self.total = self.painted = 0
        for task in tasks(folder.lines):
            self.total += 1
            if not folder.has(task.picture):
                self.left[task.number] = task
                identifier = task.line.custom_id
                self._missing[identifier] = self._missing.get(identifier, 0) + 1
        for line in folder.lines:
            # All pictures were stored, and the process ended before it wrote the result.
            if line.custom_id not in self._missing and line.custom_id not in folder.results:
                self._finish(line)
        self._started = clock.monotonic()
        self._first: float | None = None  # when the first picture came
        self._shown = -float(_QUIET_SECONDS)

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self._clock.monotonic() - self._started

    @property
    def failed(self) -> int:
        """The lines that have failed so far."""
        return len(self._failures)

    @property
    def seconds_each(self) -> float | None:
        """Seconds from one picture to the next, once that can be measured."""
        if self._first is None or self.painted < 5:
            return None
        return (self._clock.monotonic() - self._first) / (self.painted - 1)

    def add(self, number: int, body: bytes) -> None:
        """Store a picture that has come."""
        task = self.left.pop(number)
        self.folder.store(task.picture, body)
        if self._first is None:
            self._first = self._clock.monotonic()
        self.painted += 1
        self._settle(task.line)

    def fail(self, number: int, message: str, status: int) -> None:
        """Give a picture up; its line fails, and no other."""
        task = self.left.pop(number)
        self._failures.setdefault(task.line.custom_id, (status, message))
        self._settle(task.line)

    def _settle(self, line: Line) -> None:
        self._missing[line.custom_id] -= 1
        if not self._missing[line.custom_id]:
            self._finish(line)

    def _finish(self, line: Line) -> None:
        if line.custom_id in self._failures:
            status, message = self._failures[line.custom_id]
            self.folder.finish(line, results.failed(line, message, status=status))
            return
        data = [{"url": picture.file} for picture in line.pictures]
        created = int(self._clock.now().timestamp())
        self.folder.finish(line, results.succeeded(line, data, created))

    def show(self, state: str = "") -> None:
        """Show how far it is; where lines cannot be overwritten, once a minute."""
        now = self._clock.monotonic()
        if not self._console.overwrites and now - self._shown < _QUIET_SECONDS:
            return
        self._shown = now
        self._console.waiting(self.line(state), self._started)

    def line(self, state: str = "") -> str:
        """Return how far it is, in one line."""
        done = self.total - len(self.left)
        filled = done * _BAR // max(self.total, 1)
        parts = [f"[{'#' * filled}{'.' * (_BAR - filled)}] {done:,} of {self.total:,}"]
        each = self.seconds_each
        if each and self.left:
            seconds = each * len(self.left)
            parts += [f"{60 / each:.1f} a minute", f"{elapsed(seconds)} left"]
            if self.usd_per_hour:
                parts.append(f"{seconds / 3_600 * self.usd_per_hour:.2f} USD to go")
        if self._failures:
            parts.append(f"{len(self._failures)} failed")
        if state:
            parts.append(state)
        return ", ".join(parts)


def tasks(lines: Iterable[Line]) -> Iterator[Task]:
    """Yield all pictures of a batch, numbered."""
    number = 0
    for line in lines:
        for picture in line.pictures:
            yield Task(number, line, picture)
            number += 1
