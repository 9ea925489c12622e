"""What pictures would cost, and how long visitors would wait for them.

    python -m endpoint.estimate --model sdxl                 from one picture a day to ten a second
    python -m endpoint.estimate --model sdxl --per-day 200   at one rate
    python -m endpoint.estimate --model my/model --instance-type ml.g6.xlarge --seconds 4

Calls nothing, and needs no account. The prices are those of prices.json, the seconds for a picture
those of painting_seconds.json unless `--seconds` says better, and the waiting comes from
simulation.py, with the policies that the scripts install.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from endpoint.catalogue import models as catalogue
from endpoint.catalogue import prices
from endpoint.costs.simulation import Outcome, Simulation, arrivals, installed

_FILE = Path(__file__).with_name("catalogue") / "painting_seconds.json"
_HOUR, _DAY = 3_600.0, 86_400.0
_MONTH = prices.HOURS_PER_MONTH * _HOUR
RATES = {
    "1 a day": 1 / _DAY,
    "10 a day": 10 / _DAY,
    "100 a day": 100 / _DAY,
    "1,000 a day": 1_000 / _DAY,
    "10 a minute": 1 / 6,
    "1 a second": 1.0,
    "10 a second": 10.0,
}
# Enough pictures to tell a percentile, within times in which policies can act.
_PICTURES, _SHORTEST, _LONGEST = 3_000, 3 * _HOUR, 365 * _DAY
# No instance should have more than four fifths of its time taken: the queue would grow long.
_BUSY = 0.8
_SEED = 1


@dataclass(frozen=True)
class Painting:
    """How long an instance type takes for a model's picture, and who says so.

    Attributes:
        seconds: None where nobody is known to have published it.
    """

    model: str
    instance_type: str
    seconds: float | None
    source: str

    @property
    def usd_per_hour(self) -> float:
        """The instance's price; raises KeyError where that is not known."""
        return prices.instance_types()[self.instance_type].usd_per_hour

    @property
    def per_thousand(self) -> float | None:
        """USD for 1,000 pictures of an instance that always paints, the gateway's share included.

        The visit is taken to keep a Lambda busy for as long as the picture takes.
        """
        if self.seconds is None:
            return None
        gpu = self.seconds / _HOUR * self.usd_per_hour
        return 1_000 * (gpu + prices.gateway_per_picture(self.seconds))


def published() -> list[Painting]:
    """Return what others have measured, for the catalogue's defaults."""
    entries = json.loads(_FILE.read_text("utf-8"))["published"]
    return [
        Painting(each["model"], each["instance_type"], each["seconds"], each["source"])
        for each in entries
    ]


def paintings() -> list[Painting]:
    """Return for each model of the catalogue what is published, or its first type without it."""
    known = published()
    return [
        each
        for model in catalogue.read().values()
        for each in [one for one in known if one.model == model.name]
        or [Painting(model.name, model.instance_types[0], None, "not measured, not published")]
    ]


@dataclass(frozen=True)
class Estimate:
    """One way of serving at one rate.

    Attributes:
        usd: for a month's instances.
        median, slow: seconds that half and 95 of 100 visitors wait at most.
        lost: which part of the pictures is given up in the queue.
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
        """USD, median, 95 %, as a person reads them."""
        lost = f", {self.lost:.0%} lost" if self.lost >= 0.005 else ""
        return [f"{self.usd:,.0f}", in_time(self.median), in_time(self.slow) + lost]


def in_time(seconds: float) -> str:
    """Return a time in seconds or minutes."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def instances_for(rate: float, seconds: float) -> int:
    """Return how many instances it takes that each is busy for four fifths of its time at most."""
    return max(1, math.ceil(rate * seconds / _BUSY))


def estimate(
    rate: float, seconds: float, usd_per_hour: float, count: int | None = None
) -> tuple[Estimate, Estimate]:
    """Return what serving in real time and asynchronously comes to.

    Args:
        rate: pictures asked for in a second.
        seconds: for one picture.
        usd_per_hour: of one instance.
        count: of real-time instances, and how many asynchronous ones there may be; None for as
            many as it takes.
    """
    count = instances_for(rate, seconds) if count is None else count
    lasts = min(max(_PICTURES / rate, _SHORTEST), _LONGEST)
    ways = (Simulation(seconds, count), Simulation(seconds, count, installed(count)))
    real_time, queued = (
        Estimate.of(way.run(arrivals(rate, lasts, _SEED), lasts), usd_per_hour) for way in ways
    )
    return real_time, queued


def growth_table(painting: Painting, rates: Iterable[str] = tuple(RATES)) -> str:
    """Return, as Markdown, cost and waiting by how many pictures are asked for."""
    if painting.seconds is None:
        raise ValueError(f"nobody is known to have measured {painting.model}")
    head = ("pictures", "instances", "real-time: USD a month", "median", "95 %")
    rows: list[tuple[str, ...]] = [
        (*head, "asynchronous: USD a month", "median", "95 %"),
        ("---",) * 8,
    ]
    for name in rates:
        ways = estimate(RATES[name], painting.seconds, painting.usd_per_hour)
        count = str(instances_for(RATES[name], painting.seconds))
        rows.append((name, count, *ways[0].cells(), *ways[1].cells()))
    return _markdown(rows)


def price_table() -> str:
    """Return, as Markdown, what pictures and idle months cost, by model and instance type."""
    head = ("model", "instance type", "seconds for a picture", "USD for 1,000 pictures")
    rows: list[tuple[str, ...]] = [
        (*head, "idle month, real-time", "idle month, asynchronous"),
        ("---",) * 6,
    ]
    for each in paintings():
        seconds = f"{each.seconds:g}, published" if each.seconds else "not measured"
        thousand = f"{each.per_thousand:.2f}" if each.per_thousand else ""
        idle = f"{each.usd_per_hour * prices.HOURS_PER_MONTH:,.0f} USD"
        rows.append((f"`{each.model}`", each.instance_type, seconds, thousand, idle, "0 USD"))
    return _markdown(rows)


def _markdown(rows: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def parser() -> argparse.ArgumentParser:
    """Return the command line's description."""
    top = argparse.ArgumentParser(
        prog="python -m endpoint.estimate", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument("--model", default="sd", help="a name of the catalogue, or org/name (sd)")
    top.add_argument("--instance-type", help="the model's first, without")
    top.add_argument("--seconds", type=float, help="for one picture, as you have measured it")
    top.add_argument("--per-day", type=float, help="pictures; without, a table of rates")
    top.add_argument(
        "--most-instances", type=int, help="with --per-day; as many as it takes, without"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the estimate; return the exit code."""
    asked = parser().parse_args(arguments)
    try:
        painting = _painting(asked)
    except ValueError as error:
        print(f"estimate: {error}", file=sys.stderr)
        return 2
    print(
        f"{painting.model} on {painting.instance_type}, {painting.usd_per_hour:.3f} USD per hour;"
    )
    print(f"{painting.seconds:g} s for a picture: {painting.source}.")
    print(f"{prices.provenance()} Requests, storage and logs are not in it.\n")
    if asked.per_day is None:
        print(growth_table(painting), end="")
        return 0
    ways = estimate(
        asked.per_day / _DAY, painting.seconds or 0, painting.usd_per_hour, asked.most_instances
    )
    for name, way in zip(("real-time", "asynchronous"), ways, strict=True):
        usd, median, slow = way.cells()
        print(f"{name:13} {usd:>8} USD a month; half wait {median} at most, 95 of 100 {slow}")
    return 0


def _painting(asked: argparse.Namespace) -> Painting:
    """Return what the command line speaks of.

    Raises:
        ValueError: if something is missing or out of range; the message says what to do.
    """
    for name in ("seconds", "per_day", "most_instances"):
        value = getattr(asked, name)
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0")
    model = catalogue.resolve(asked.model)
    kind = asked.instance_type or model.instance_types[0]
    if kind not in prices.instance_types():
        known = ", ".join(prices.instance_types())
        raise ValueError(f"the price of {kind} is not known; known are {known}")
    if asked.seconds is not None:
        return Painting(model.name, kind, asked.seconds, "as you say")
    for each in published():
        if (each.model, each.instance_type) == (model.name, kind):
            return each
    raise ValueError(f"nobody is known to have measured {model.name} on {kind}; give --seconds")


if __name__ == "__main__":
    sys.exit(main())
