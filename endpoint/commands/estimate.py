"""What pictures would cost, and how long clients would wait for them.

    python -m endpoint estimate --model sdxl                 from one picture a day to ten a second
    python -m endpoint estimate --model sdxl --per-day 200   at one rate
    python -m endpoint estimate --model my/model --instance-type ml.g6.xlarge --seconds 4

Makes no calls and needs no account.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from endpoint.catalogue import benchmarks, models, prices
from endpoint.catalogue.benchmarks import Benchmark
from endpoint.cli.options import NETWORKS, instance_type, number, read
from endpoint.core.problems import BadArgument
from endpoint.costs.estimate import DAY, estimate, growth_table


@dataclass(frozen=True)
class EstimateOptions:
    """What to estimate; None uses the catalogue's value, or a table of rates for `per_day`."""

    model: str
    instance_type: str | None
    seconds: float | None
    per_day: float | None
    most_instances: int | None
    private_network: str | None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m endpoint estimate",
        description="Estimate what pictures cost, and how long clients wait for them.",
    )
    add = parser.add_argument
    add("--model", default="sd", help="a name in the catalogue, or org/name (default: sd)")
    add("--instance-type", type=instance_type, help="default: the model's first")
    add("--seconds", type=number, help="your own measurement for one picture")
    add("--per-day", type=number, help="pictures per day; default: a table of rates")
    add("--most-instances", type=int, help="with --per-day; default: as many as necessary")
    network = "add the price of a private network"
    add("--private-network", nargs="?", choices=NETWORKS, const="s3", help=network)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the estimate; return the exit code: 0 done, 2 wrong arguments."""
    options = read(EstimateOptions, parser().parse_args(argv))
    try:
        benchmark = _benchmark(options)
    except BadArgument as error:  # nothing else can fail without AWS
        print(f"estimate: {error}", file=sys.stderr)
        return error.exit_code
    print(
        f"{benchmark.model} on {benchmark.instance_type},"
        f" {benchmark.usd_per_hour:.3f} USD per hour;"
    )
    print(f"{benchmark.seconds:g} s for a picture: {benchmark.source}.")
    sources = prices.provenance([benchmark.instance_type])
    print(f"{sources} Requests, storage and logs are not included.")
    print(prices.image_in_words())
    if options.private_network:
        month = prices.network_per_hour(options.private_network) * prices.HOURS_PER_MONTH
        print(f"In addition: {month:.0f} USD a month for the private network's endpoints.")
    print()
    if options.per_day is None:
        print(growth_table(benchmark), end="")
    else:
        _print_rate(benchmark, options.per_day, options.most_instances)
    return 0


def _print_rate(benchmark: Benchmark, per_day: float, most: int | None) -> None:
    seconds, price = benchmark.seconds or 0, benchmark.usd_per_hour
    ways = estimate(per_day / DAY, seconds, price, most)
    for name, way in zip(("real-time", "asynchronous"), ways, strict=True):
        usd, median, slow = way.cells()
        print(f"{name:13} {usd:>8} USD a month; median wait {median}, 95th percentile {slow}")


def _benchmark(options: EstimateOptions) -> Benchmark:
    """Return the benchmark that the options select.

    Raises:
        BadArgument: if a value is missing or out of range; the message says what to do.
    """
    for name in ("seconds", "per_day", "most_instances"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise BadArgument(f"--{name.replace('_', '-')} must be more than 0")
    model = models.resolve(options.model)
    instance_type = options.instance_type or model.instance_types[0]
    priced = prices.instance_types()
    if instance_type not in priced:
        raise BadArgument(
            f"the price of {instance_type} is not known; known types: {', '.join(priced)}"
        )
    # Your own measurement wins, because it was made with your settings.
    if options.seconds is not None:
        return Benchmark(model.name, instance_type, options.seconds, "your measurement")
    for benchmark in benchmarks.known():
        if (benchmark.model, benchmark.instance_type) == (model.name, instance_type):
            return benchmark
    raise BadArgument(f"No benchmark for {model.name} on {instance_type}; pass --seconds")
