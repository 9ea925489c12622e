"""What compiling a model for Inferentia2 takes and costs, and when serving it there pays."""

from __future__ import annotations

from dataclasses import dataclass

from endpoint.catalogue import benchmarks, inferentia, models, prices, training
from endpoint.catalogue.benchmarks import Benchmark
from endpoint.catalogue.inferentia import Compilable
from endpoint.core.training_jobs.price import Range

_WAIT_FOR_SPOT = 3_600  # seconds that spot capacity and interruptions can take besides


@dataclass(frozen=True)
class Estimate:
    """What a job takes and costs.

    Attributes:
        seconds: until the compiled model is written; `most` is the limit.
        usd: likewise; `most` is what the time limit allows at the full price.
        usd_per_hour: what an hour is expected to cost, with the discount of a spot instance.
        max_runtime: seconds after which SageMaker stops the job.
        max_wait: seconds with waiting for a spot instance; None on demand.
    """

    seconds: Range
    usd: Range
    usd_per_hour: float
    max_runtime: int
    max_wait: int | None


def estimate(
    family: Compilable, usd_per_hour: float, *, spot: bool, most_seconds: float
) -> Estimate:
    """Return what a job takes and costs.

    Args:
        family: of the model.
        usd_per_hour: the instance's price on demand.
        spot: whether to use a spot instance.
        most_seconds: that the job may run, which limits the longest time alone; infinite for as
            long as it may take.
    """
    low, expected, most = (
        inferentia.start_seconds() + 60 * minutes for minutes in family.compile_minutes
    )
    limit = int(min(most, most_seconds))
    seconds = Range(low, expected, limit)
    hourly = usd_per_hour * (training.spot_share() if spot else 1.0)
    usd = Range(
        seconds.low / 3_600 * hourly,
        seconds.expected / 3_600 * hourly,
        limit / 3_600 * usd_per_hour,
    )
    return Estimate(seconds, usd, hourly, limit, limit + _WAIT_FOR_SPOT if spot else None)


def comparison_table() -> str:
    """Return, as Markdown, what pictures of compiled models cost, next to those of GPUs."""
    head = (
        "model",
        "instance type",
        "seconds for a picture",
        "USD per hour",
        "USD for 1,000 pictures",
        "compared with the cheapest GPU",
        "pictures until compiling is paid",
    )
    rows: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    for name in models.read():
        measured = [one for one in benchmarks.published() if one.model == name]
        family = inferentia.of_model(name)
        if family is not None and any(prices.is_inferentia(one.instance_type) for one in measured):
            rows += [_row(one, measured, family) for one in measured]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(one: Benchmark, measured: list[Benchmark], family: Compilable) -> tuple[str, ...]:
    gpus = [each for each in measured if not prices.is_inferentia(each.instance_type)]
    cheapest = min(each.per_thousand or 0.0 for each in gpus)
    usd = one.per_thousand or 0.0
    compared = paid = ""
    if prices.is_inferentia(one.instance_type):
        compared = f"{(usd - cheapest) / cheapest:+.0%}"
        made = estimate(
            family,
            prices.cpu_types()[family.compile_types()[0]].usd_per_hour,
            spot=False,
            most_seconds=float("inf"),
        )
        saved = cheapest - usd
        paid = f"{made.usd.expected / saved * 1_000:,.0f}" if saved > 0 else "never"
    return (
        f"`{one.model}`",
        one.instance_type,
        f"{one.seconds:g}",
        f"{one.usd_per_hour:.3f}",
        f"{usd:.2f}",
        compared,
        paid,
    )


def compile_table() -> str:
    """Return, as Markdown, what compiling takes and costs, by the family of models."""
    head = ("models", "size", "compiled on", "minutes", "USD", "loads on")
    rows: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    for family in inferentia.families().values():
        name = family.compile_types()[0]
        price = prices.cpu_types()[name].usd_per_hour
        made = estimate(family, price, spot=False, most_seconds=float("inf"))
        rows.append(
            (
                ", ".join(f"`{model}`" for model in family.models),
                f"{family.size} x {family.size}",
                f"{name}, {family.compile_gib} GiB",
                " to ".join(f"{seconds / 60:.0f}" for seconds in
                            (made.seconds.low, made.seconds.most)),
                f"{made.usd.low:.2f} to {made.usd.most:.2f}, about {made.usd.expected:.2f}",
                ", ".join(family.serving_types()),
            )
        )  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
