"""Polling AWS until something is done, with a progress line and a time limit."""

from __future__ import annotations

from collections.abc import Callable

from endpoint.core.clock import Clock
from endpoint.core.console import Console, elapsed
from endpoint.core.problems import AGAIN, TookTooLong


class Waiting:
    """Polls until something is done.

    Args:
        pretend: return at once, because a dry run starts nothing that could be waited for.
    """

    def __init__(self, clock: Clock, console: Console, *, pretend: bool = False) -> None:
        self._clock = clock
        self._console = console
        self.pretend = pretend

    def until_done(
        self, poll: Callable[[], str | None], *, at_most: float, every: float = 10.0
    ) -> None:
        """Return when `poll` returns None; until then show the phase that it returns.

        Args:
            poll: asks AWS for the current phase; returns None when it is done.
            at_most: seconds to wait in all.
            every: seconds between two polls.

        Raises:
            TookTooLong: after `at_most` seconds.
        """
        if self.pretend:
            return
        start = self._clock.monotonic()
        while (phase := poll()) is not None:
            waited = self._clock.monotonic() - start
            if waited >= at_most:
                raise TookTooLong(
                    f"After {elapsed(waited)} the state is still: {phase}.",
                    f"Check with `python -m endpoint status`. {AGAIN}",
                )
            self._console.waiting(phase, start)
            self._clock.sleep(every)
