"""What the meter adds to an image: processor time, and calls to S3.

    python -m tests.benchmarks.sections.gateway.meter

Both gateways are the zip from `chalice package` under AWS's own Runtime Interface Client, in front
of an HTTP server that returns a PNG of 1.5 MB for InvokeEndpoint and takes every PutObject without
delay. One records what is used (EASEL_USAGE) and the other does not. They take the same requests in
turns. Calls are priced as Amazon lists S3 Standard in us-east-1 (https://aws.amazon.com/s3/pricing/,
November 2026): 0.005 USD for 1,000 writes.
"""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction
from tests.benchmarks.lib.gateway.lambda_packages import (
    EVENT,
    PACKAGES,
    check,
    unpack_gateway,
    variables,
)
from tests.benchmarks.lib.gateway.stub_endpoint import stub_endpoint
from tests.benchmarks.lib.measuring import Samples, in_turns
from tests.benchmarks.lib.processes import processor_milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.packages import ROOT

ROUNDS = 400
WITH, WITHOUT = "with the meter", "without it"
WRITE_PRICE = 0.005  # USD for 1,000
TEXT = """\
The same request to two warm Lambdas in turns, of which one records what is used and the other does
not, in front of an HTTP server that returns a PNG of 1.5 MB and takes every PutObject without
delay. On AWS, the response also waits for S3 to take the record.
"""


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    rounds = 10 if quick else ROUNDS
    written: list[str] = []
    with tempfile.TemporaryDirectory() as folder, stub_endpoint(written) as url:
        package = unpack_gateway(ROOT, Path(folder))
        computing, latency, calls = measure(package, url, written, rounds)
    return report(computing, latency, calls)


def measure(
    package: Path, url: str, written: list[str], rounds: int
) -> tuple[dict[str, float], dict[str, Samples], float]:
    """Return the mean processor time, the milliseconds, and the calls to S3 for an image."""
    with ExitStack() as stack:
        functions = {
            name: stack.enter_context(
                LambdaFunction(package, environment(url, name), output=subprocess.DEVNULL)
            )
            for name in (WITH, WITHOUT)
        }
        variants = {name: functools.partial(_image, each) for name, each in functions.items()}
        in_turns(variants, 10)
        before = {name: processor_milliseconds(each.pids[0]) for name, each in functions.items()}
        written.clear()
        latency = in_turns(variants, rounds)
        calls = len(written) / rounds
        computing = {
            name: (processor_milliseconds(each.pids[0]) - before[name]) / rounds
            for name, each in functions.items()
        }
    return computing, latency, calls


def environment(url: str, name: str) -> dict[str, str]:
    """Return the variables of a gateway whose model has a price."""
    models = {"sd": {"endpoint": "easel-sd", "usd_per_hour": 1.408}}
    usage = {"EASEL_USAGE": "s3://easel-main/usage/"} if name == WITH else {}
    return {**variables(url), "EASEL_MODELS": json.dumps(models), **usage}


def _image(function: LambdaFunction) -> float:
    result = function.invoke(EVENT)
    check(result.payload)
    return result.duration * 1_000


def report(computing: dict[str, float], latency: dict[str, Samples], calls: float) -> Section:
    """Return all figures with their baselines."""
    rows = (
        Row(
            "processor time of an image with the meter",
            "ms",
            Figure(round(computing[WITH], 2)),
            WITHOUT,
            Figure(round(computing[WITHOUT], 2)),
            Aim("difference", at_most=2),
            "mean",
        ),
        Row(
            "warm request with the meter",
            "ms",
            Figure.of(latency[WITH]),
            WITHOUT,
            Figure.of(latency[WITHOUT]),
        ),
        Row("S3 calls of the meter for an image", "", Figure(calls), aim=Aim("value", at_most=1)),
        Row("S3 calls of the meter for 1,000 images", "USD", Figure(calls * WRITE_PRICE)),
    )
    return Section("The meter", TEXT, rows, packages=PACKAGES)


if __name__ == "__main__":
    print_section(section)
