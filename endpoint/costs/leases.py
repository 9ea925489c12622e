"""What a month of hobby use costs with a lease, without one, and under a cap.

The month: 20 pictures a day in five bursts of four, at random moments between 8 and 24 o'clock, the
pictures of a burst half a minute apart. A burst that finds the endpoint asleep wakes it, as
`--wake` allows; it then exists until its lease has passed without a picture.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from endpoint.catalogue import benchmarks
from endpoint.costs.estimate import DAY, in_time
from endpoint.costs.simulation import Simulation, installed

BURSTS, PICTURES, PAUSE = 5, 4, 30.0
DAYS = 30
# From a request for an endpoint to its first picture, as gateway/chalicelib/images/lease.py has it.
WAKE_SECONDS = 480.0
_FIRST_HOUR, _LAST_HOUR = 8, 24
_SEED = 1  # fixed, so that the table in the docs is reproducible
LEASES = (2.0, 0.5)
CAP = 20.0


def moments(seed: int = _SEED) -> Iterator[float]:
    """Yield the requests of the month in seconds, in their order."""
    rng = random.Random(seed)  # noqa: S311 - a simulation, no secret
    for day in range(DAYS):
        bursts = sorted(rng.uniform(_FIRST_HOUR, _LAST_HOUR) * 3_600 for _ in range(BURSTS))
        for burst in bursts:
            yield from (day * DAY + burst + number * PAUSE for number in range(PICTURES))


def leased(hours: float) -> list[tuple[float, float]]:
    """Return when an endpoint with such a lease exists, as beginnings and ends in seconds."""
    spans: list[tuple[float, float]] = []
    for moment in moments():
        if spans and moment < spans[-1][1]:
            begin, end = spans[-1]
            spans[-1] = (begin, max(end, moment + hours * 3_600))
        else:
            # Its first picture, which renews the lease, is there once it is awake.
            spans.append((moment, moment + WAKE_SECONDS + hours * 3_600))
    return spans


def hours_of(spans: list[tuple[float, float]]) -> float:
    """Return the hours of the month in which the endpoint exists."""
    return sum(min(end, DAYS * DAY) - begin for begin, end in spans) / 3_600


def day_of_cap(spans: list[tuple[float, float]], usd_per_hour: float, cap: float) -> int | None:
    """Return the day of the month on which the cap ends it all; None if it does not."""
    left = cap / usd_per_hour * 3_600
    for begin, end in spans:
        if left <= end - begin:
            return int((begin + left) // DAY) + 1
        left -= end - begin
    return None


def asynchronous(seconds: float) -> float:
    """Return the hours of instances that scale to zero, for pictures of these seconds."""
    outcome = Simulation(seconds, 0, installed(1)).run(moments(), DAYS * DAY)
    return outcome.instances * DAYS * 24


def lease_table() -> str:
    """Return, as Markdown, a month of hobby use by model: before leases, with them, and a cap."""
    heads = [
        "model",
        "instance type",
        "always on",
        *(f"lease of {hours:g} h" for hours in LEASES),
        "asynchronous",
        f"with a cap of {CAP:g} USD and a lease of {LEASES[-1]:g} h, asleep from day",
    ]
    rows = [heads, ["---"] * len(heads)]
    for benchmark in benchmarks.by_model():
        usd = benchmark.usd_per_hour
        shortest = leased(LEASES[-1])
        queued = asynchronous(benchmark.seconds) * usd if benchmark.seconds else None
        day = day_of_cap(shortest, usd, CAP)
        rows.append(
            [
                f"`{benchmark.model}`",
                benchmark.instance_type,
                f"{DAYS * 24 * usd:,.0f}",
                *(f"{hours_of(leased(hours)) * usd:,.0f}" for hours in LEASES),
                "not measured" if queued is None else f"{queued:,.0f}",
                "never" if day is None else str(day),
            ]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def woken() -> str:
    """Return how often in the month a burst waits for the endpoint, for each lease, in words."""
    words = [
        f"{len(leased(hours))} of {DAYS * BURSTS} bursts with a lease of {hours:g} h"
        for hours in LEASES
    ]
    wait = f"wait {in_time(WAKE_SECONDS)} for their first picture."
    # Two lines: pages are wrapped.
    return f"{' and '.join(words)}\n{wait}\n"
