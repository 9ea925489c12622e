"""What serving costs per month at a rate of requests, and how long clients wait.

Prices and durations come from the catalogue; waiting times come from the simulation, with the
scaling policies that the scripts install.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from endpoint.catalogue import benchmarks, prices
from endpoint.catalogue.benchmarks import Benchmark
from endpoint.costs.simulation import Outcome, Simulation, arrivals, installed

_HOUR, DAY = 3_600.0, 86_400.0
RATES = {
    "1 a day": 1 / DAY,
    "10 a day": 10 / DAY,
    "100 a day": 100 / DAY,
    "1,000 a day": 1_000 / DAY,
    "10 a minute": 1 / 6,
    "1 a second": 1.0,
    "10 a second": 10.0,
}
# Enough pictures for a stable 95th percentile, but at least three hours, so that the scaling
# policies can act, and at most a year.
_PICTURES, _SHORTEST, _LONGEST = 3_000, 3 * _HOUR, 365 * DAY
# Above four fifths of utilisation a queue's length grows steeply.
_BUSY = 0.8
_SEED = 1  # fixed, so that the tables in the docs are reproducible


@dataclass(frozen=True)
class Estimate:
    """One way of serving at one rate.

    Attributes:
        usd: a month's instances.
        median: the waiting time that half of the requests do not exceed, in seconds.
        slow: the waiting time that 95 % of the requests do not exceed, in seconds.
        lost: the fraction of requests that expire in the queue.
    """

    usd: float
    median: float
    slow: float
    lost: float

    @classmethod
    def of(cls, outcome: Outcome, usd_per_hour: float) -> Estimate:
        usd = outcome.instances * prices.HOURS_PER_MONTH * usd_per_hour
        lost = outcome.lost / max(outcome.lost + len(outcome.waits), 1)
        return cls(usd, outcome.median, outcome.percentile(95), lost)

    def cells(self) -> list[str]:
        """Return USD, median and 95 % as table cells."""
        lost = f", {self.lost:.0%} lost" if self.lost >= 0.005 else ""
        return [f"{self.usd:,.0f}", in_time(self.median), in_time(self.slow) + lost]


def in_time(seconds: float) -> str:
    """Return a duration in seconds, or in minutes from 100 s on."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def instances_for(rate: float, seconds: float) -> int:
    """Return the number of instances that keeps utilisation at four fifths or below."""
    return max(1, math.ceil(rate * seconds / _BUSY))


def estimate(
    rate: float, seconds: float, usd_per_hour: float, count: int | None = None
) -> tuple[Estimate, Estimate]:
    """Return the estimates of serving in real time and of serving asynchronously.

    Args:
        rate: requests per second.
        seconds: the duration of one picture.
        usd_per_hour: the price of one instance.
        count: the number of real-time instances, and the limit for asynchronous ones; None for
            `instances_for` the rate.
    """
    count = instances_for(rate, seconds) if count is None else count
    duration = min(max(_PICTURES / rate, _SHORTEST), _LONGEST)
    ways = (Simulation(seconds, count), Simulation(seconds, count, installed(count)))
    real_time, queued = (
        Estimate.of(way.run(arrivals(rate, duration, _SEED), duration), usd_per_hour)
        for way in ways
    )
    return real_time, queued


def growth_table(benchmark: Benchmark, rates: Iterable[str] = tuple(RATES)) -> str:
    """Return, as Markdown, cost and waiting time by the rate of requests."""
    if benchmark.seconds is None:
        raise ValueError(f"no benchmark for {benchmark.model}")
    head = ("pictures", "instances", "real-time: USD a month", "median", "95 %")
    rows: list[tuple[str, ...]] = [
        (*head, "asynchronous: USD a month", "median", "95 %"),
        ("---",) * 8,
    ]
    for name in rates:
        ways = estimate(RATES[name], benchmark.seconds, benchmark.usd_per_hour)
        count = str(instances_for(RATES[name], benchmark.seconds))
        rows.append((name, count, *ways[0].cells(), *ways[1].cells()))
    return _markdown(rows)


def price_table() -> str:
    """Return, as Markdown, the prices of pictures and of idle months, by model and type."""
    head = ("model", "instance type", "seconds for a picture", "USD for 1,000 pictures")
    rows: list[tuple[str, ...]] = [
        (*head, "idle month, real-time", "idle month, asynchronous"),
        ("---",) * 6,
    ]
    for benchmark in benchmarks.by_model():
        how = "computed" if benchmark.computed else "published"
        seconds = f"{benchmark.seconds:g}, {how}" if benchmark.seconds else "not measured"
        thousand = f"{benchmark.per_thousand:.2f}" if benchmark.per_thousand else ""
        idle = f"{benchmark.usd_per_hour * prices.HOURS_PER_MONTH:,.0f} USD"
        rows.append(
            (f"`{benchmark.model}`", benchmark.instance_type, seconds, thousand, idle, "0 USD")
        )
    return _markdown(rows)


def _markdown(rows: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
