"""Waiting for AWS with a display of what is waited for, and an end."""

from __future__ import annotations

from collections.abc import Callable

from endpoint.core.clock import Clock
from endpoint.core.console import Console, elapsed
from endpoint.core.problems import AGAIN, TookTooLong


class Waiting:
    """Looks again and again until something is done.

    Args:
        pretend: never wait (a dry run has nothing to wait for).
    """

    def __init__(self, clock: Clock, console: Console, *, pretend: bool = False) -> None:
        self._clock = clock
        self._console = console
        self.pretend = pretend

    def until_done(
        self, look: Callable[[], str | None], *, at_most: float, every: float = 10.0
    ) -> None:
        """Return when `look` returns None; show the phase that it returns until then.

        Args:
            look: asks AWS.
            at_most: seconds to wait in all.
            every: seconds between two looks.

        Raises:
            TookTooLong: when the time is over.
        """
        if self.pretend:
            return
        start = self._clock.monotonic()
        while (phase := look()) is not None:
            waited = self._clock.monotonic() - start
            if waited >= at_most:
                raise TookTooLong(
                    f"After {elapsed(waited)} it still says: {phase}.",
                    f"Look again with `status`. {AGAIN}",
                )
            self._console.waiting(phase, start)
            self._clock.sleep(every)
