"""Talking to the person: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from endpoint.core.clock import Clock
from endpoint.core.problems import Declined

_QUIET_SECONDS = 60  # between two lines that say the same, where lines cannot be overwritten


class Console:
    """Says what happens, asks, and prints results.

    Args:
        as_json: print results as one JSON object.
        yes: take every question as answered with yes.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        as_json: bool = False,
        yes: bool = False,
        progress: TextIO | None = None,
        results: TextIO | None = None,
    ) -> None:
        self._clock = clock
        self.as_json = as_json
        self._yes = yes
        self._progress = progress or sys.stderr
        self._results = results or sys.stdout
        self._shown: tuple[str, float] | None = None  # a waiting line, and when it was shown

    @property
    def overwrites(self) -> bool:
        """Whether a line that counts up is written over itself: on a terminal."""
        return self._progress.isatty()

    def say(self, text: str) -> None:
        """Print a line of progress."""
        self._end_line()
        print(text, file=self._progress, flush=True)

    def waiting(self, phase: str, since: float) -> None:
        """Show that something goes on, since `since` on the monotonic clock.

        On a terminal one line counts the seconds; elsewhere a line is printed when the phase
        changes, and once a minute.
        """
        now = self._clock.monotonic()
        line = f"  {phase} ({elapsed(now - since)})"
        if self.overwrites:
            print(f"\r\033[K{line}", end="", file=self._progress, flush=True)
        elif (
            self._shown is None or self._shown[0] != phase or now - self._shown[1] >= _QUIET_SECONDS
        ):
            print(line, file=self._progress, flush=True)
        else:
            return
        self._shown = (phase, now)

    def _end_line(self) -> None:
        if self._shown and self.overwrites:
            print(file=self._progress)
        self._shown = None

    def ask(self, question: str) -> None:
        """Return if the person agrees.

        Raises:
            Declined: if they do not, or there is no terminal to ask at and no --yes.
        """
        if self._yes:
            return
        if not sys.stdin.isatty():
            raise Declined(f"{question} Nobody can be asked here.", "Pass --yes to agree.")
        self._end_line()
        print(f"{question} [y/N] ", end="", file=self._progress, flush=True)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise Declined("Nothing was changed.")

    def result(self, data: dict[str, Any], lines: Iterable[str]) -> None:
        """Print a result: the data with --json, the lines without."""
        self._end_line()
        text = json.dumps(data, indent=2, default=str) if self.as_json else "\n".join(lines)
        print(text, file=self._results, flush=True)


def elapsed(seconds: float) -> str:
    """Return a duration as a person reads it: 9 s, 2 min 05 s, 1 h 10 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
