"""What a proof has cost so far, and the clock that ends it before it costs too much."""

from __future__ import annotations

from datetime import datetime

from endpoint.core.clock import Clock
from endpoint.core.problems import ScriptError

# Instances are billed until SageMaker has deleted the endpoint.
DELETING_SECONDS = 900
# Requests, storage, logs and the alarm of one proof, rounded up.
OTHER_USD = 0.10


class CostLimit(ScriptError):
    """The proof would cost more than allowed."""


class Meter:
    """An upper limit of the cost so far.

    Every endpoint counts with its most expensive type from the first call that could create it, and
    without regard to an asynchronous endpoint's hours at zero instances.

    Args:
        clock: measures the time.
        most: the most USD that the proof may cost.
    """

    def __init__(self, clock: Clock, most: float) -> None:
        self._clock = clock
        self._most = most
        self._since: dict[str, tuple[float, float]] = {}
        self._ended = OTHER_USD

    def start(self, endpoint: str, usd_per_hour: float) -> None:
        """Count an endpoint from now on."""
        self._since[endpoint] = (self._clock.monotonic(), usd_per_hour)

    def stop(self, endpoint: str) -> None:
        """Count an endpoint no longer, because it is gone."""
        self._ended += self._cost(endpoint)
        self._since.pop(endpoint, None)

    def end(self) -> None:
        """Count no endpoint any longer, because all are gone."""
        for endpoint in list(self._since):
            self.stop(endpoint)

    def usd(self) -> float:
        """Return the cost so far in USD."""
        return self._ended + sum(map(self._cost, self._since))

    def check(self, seconds: float = 0) -> None:
        """Require that `seconds` more, and the clean-up after them, are within the limit.

        Raises:
            CostLimit: if they are not.
        """
        hourly = sum(price for _, price in self._since.values())
        if self.usd() + hourly * (seconds + DELETING_SECONDS) / 3600 > self._most:
            raise CostLimit(
                f"Going on could cost more than {self._most:g} USD.",
                "Everything is deleted now; allow more with --most.",
            )

    def _cost(self, endpoint: str) -> float:
        since, price = self._since.get(endpoint, (0.0, 0.0))
        return price * (self._clock.monotonic() - since) / 3600 if price else 0.0


class MeteredClock(Clock):
    """A clock whose `sleep` raises CostLimit instead of waiting for more than is allowed.

    The scripts wait for AWS by this method alone.
    """

    def __init__(self, clock: Clock, meter: Meter) -> None:
        self._clock = clock
        self._meter = meter

    def monotonic(self) -> float:
        """Return the clock's seconds."""
        return self._clock.monotonic()

    def now(self) -> datetime:
        """Return the clock's date and time."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`, if the meter allows it."""
        self._meter.check(seconds)
        self._clock.sleep(seconds)
