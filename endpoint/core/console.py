"""The scripts' output: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from endpoint.core.clock import Clock
from endpoint.core.problems import Declined

# Between two lines with the same phase where lines cannot be overwritten, as in a CI log.
_QUIET_SECONDS = 60


class Console:
    """Prints progress and results, and asks for confirmation.

    Args:
        as_json: print results as one JSON object.
        yes: confirm every question without asking.
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
        self._shown: tuple[str, float] | None = None  # the last waiting line's phase, and when
        self._drawn = 0  # the lines of the last drawing

    @property
    def overwrites(self) -> bool:
        """Whether progress is shown on a terminal, where a line can be overwritten."""
        return self._progress.isatty()

    def say(self, text: str) -> None:
        """Print a line of progress."""
        self._end_line()
        print(text, file=self._progress, flush=True)

    def waiting(self, phase: str, since: float) -> None:
        """Show a phase that began at `since` on the monotonic clock.

        On a terminal one line counts the seconds; otherwise a line is printed when the phase
        changes, and once a minute.
        """
        now = self._clock.monotonic()
        line = f"  {phase} ({elapsed(now - since)})"
        if self.overwrites:
            # Back to the first column, then erase to the end of the line.
            print(f"\r\033[K{line}", end="", file=self._progress, flush=True)
        elif (
            self._shown is None or self._shown[0] != phase or now - self._shown[1] >= _QUIET_SECONDS
        ):
            print(line, file=self._progress, flush=True)
        else:
            return
        self._shown = (phase, now)

    def draw(self, text: str) -> None:
        """Print lines; on a terminal, over those of the drawing before."""
        lines = self._drawn + (1 if self._shown else 0)
        # Back to the first line of the drawing, below which is one that counts the seconds.
        up = f"\033[{lines}A\033[J" if self.overwrites and self._drawn else ""
        self._end_line()
        print(f"{up}{text}", file=self._progress, flush=True)
        self._drawn = text.count("\n") + 1

    def _end_line(self) -> None:
        self._drawn = 0
        if self._shown and self.overwrites:
            print(file=self._progress)
        self._shown = None

    def ask(self, question: str) -> None:
        """Return if the operator confirms.

        Raises:
            Declined: on any answer but yes, or without both a terminal and --yes.
        """
        if self._yes:
            return
        if not sys.stdin.isatty():
            raise Declined(f"{question} Not a terminal.", "Pass --yes to confirm.")
        self._end_line()
        print(f"{question} [y/N] ", end="", file=self._progress, flush=True)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise Declined("Nothing was changed.")

    def result(self, data: dict[str, Any], lines: Iterable[str]) -> None:
        """Print the data with --json, otherwise the lines."""
        self._end_line()
        text = json.dumps(data, indent=2, default=str) if self.as_json else "\n".join(lines)
        print(text, file=self._results, flush=True)


def elapsed(seconds: float) -> str:
    """Return a duration in words: 9 s, 2 min 05 s, 1 h 10 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
