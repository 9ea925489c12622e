"""The gateway's Lambda: cold start, warm overhead, memory and size.

    python -m tests.benchmarks.sections.gateway.gateway

The zip from `chalice package` runs under AWS's own Runtime Interface Client, in front of an HTTP
server that returns a PNG of 1.5 MB for InvokeEndpoint without delay. Baselines are the smallest
programs for the task with the same tools:

* cold start: a Chalice app that creates one boto3 client at import and returns the image
* warm: a bare Lambda handler that only calls InvokeEndpoint and encodes base64
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction
from tests.benchmarks.lib import against
from tests.benchmarks.lib.gateway.lambda_packages import EVENT, PACKAGES, check, unpack, variables
from tests.benchmarks.lib.gateway.stub_endpoint import stub_endpoint
from tests.benchmarks.lib.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.lib.processes import processor_milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.packages import package_gateway

COLD_ROUNDS = 15
WARM_ROUNDS = 200
TEXT = """\
The zip from `chalice package` runs under AWS's Runtime Interface Client, in front of an HTTP server
that returns a PNG of 1.5 MB for InvokeEndpoint without delay. A cold start lasts from the start of
the process to the first image. The task folder is read-only, as in Lambda, so that modules without
bytecode in the zip are compiled at every start. Baselines are the smallest programs for the task
with the same tools: for the cold start a Chalice app that creates one boto3 client and returns the
image, as Chalice zips it, for a warm request a handler that only calls InvokeEndpoint and encodes
base64.
"""


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    rounds = Rounds(2, 5) if quick else Rounds(COLD_ROUNDS, WARM_ROUNDS)
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        package = package_gateway(Path(folder, "package")) / "deployment.zip"
        folders = unpack(package, Path(folder))
        environment = variables(url)
        cold = measure_cold(_only(folders, "easel", "bare chalice"), environment, rounds.cold)
        warm, memory = measure_warm(
            _only(folders, "easel", "bare handler"), environment, rounds.warm
        )
        imports = measure_imports(folders["easel"], rounds.cold)
        return report(package, cold, warm, memory, imports)


def compare(other: Path, quick: bool = False) -> Section:
    """Measure this gateway against another checkout's."""
    rounds = Rounds(2, 5) if quick else Rounds(COLD_ROUNDS, WARM_ROUNDS)
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        folders = against.unpack_gateways(Path(folder), other)
        cold = measure_cold(folders, variables(url), rounds.cold)
        warm, memory = measure_warm(folders, variables(url), rounds.warm)
    rows = [
        against.row(what, "ms", {name: Figure.of(samples[name + suffix]) for name in folders})
        for what, samples, suffix in (
            ("cold start, to the first image", cold, ""),
            ("cold start, processor time", cold, ", computing"),
            ("warm request", warm, ""),
            ("warm request, processor time, mean", warm, ", computing"),
        )
    ]
    peaks = {name: _megabytes(peak) for name, peak in memory.items()}
    rows.append(against.row("memory, peak", "MB", peaks))
    return against.section("The gateway's Lambda", rows, packages=PACKAGES)


def _only(folders: dict[str, Path], *names: str) -> dict[str, Path]:
    return {name: folders[name] for name in names}


class Rounds(NamedTuple):
    """The numbers of cold starts and of warm requests."""

    cold: int
    warm: int


def measure_cold(
    folders: dict[str, Path], environment: dict[str, str], rounds: int
) -> dict[str, Samples]:
    """Start each variant in a new process in each round, and wait for its first image.

    "NAME, computing" is the processor time until then.
    """
    computing: dict[str, list[float]] = {name: [] for name in folders}
    variants = {
        name: functools.partial(cold_start, folder, environment, computing[name])
        for name, folder in folders.items()
    }
    samples = in_turns(variants, rounds)
    return samples | {f"{name}, computing": Samples(tuple(computing[name])) for name in folders}


def cold_start(folder: Path, environment: dict[str, str], computing: list[float]) -> float:
    """Return the milliseconds from the process's start to the first image.

    Appends the milliseconds of processor time to `computing`.
    """
    with LambdaFunction(folder, environment, output=subprocess.DEVNULL) as function:
        result = function.invoke(EVENT)
        check(result.payload)
        computing.append(processor_milliseconds(function.pids[0]))
        return (float(result.init_duration or 0) + result.duration) * 1_000


def measure_warm(
    folders: dict[str, Path], environment: dict[str, str], rounds: int
) -> tuple[dict[str, Samples], dict[str, int]]:
    """Invoke one instance of each variant in turns; return milliseconds and peak bytes."""
    with ExitStack() as stack:
        functions = {
            name: stack.enter_context(
                LambdaFunction(folder, environment, output=subprocess.DEVNULL)
            )
            for name, folder in folders.items()
        }
        variants = {
            name: functools.partial(_warm, function) for name, function in functions.items()
        }
        in_turns(variants, 10)
        before = {name: processor_milliseconds(each.pids[0]) for name, each in functions.items()}
        samples = in_turns(variants, rounds)
        for name, function in functions.items():
            mean = (processor_milliseconds(function.pids[0]) - before[name]) / rounds
            samples[f"{name}, computing"] = Samples((mean, mean))
        return samples, {name: function.max_rss() for name, function in functions.items()}


def _warm(function: LambdaFunction) -> float:
    return function.invoke(EVENT).duration * 1_000


def measure_imports(folder: Path, rounds: int) -> dict[str, Samples]:
    """Time a new Python process per import: the cost of the loggers."""
    statements = {
        "nothing": "pass",
        "json and logging": "import json, logging",
        "powertools": "import aws_lambda_powertools; import aws_lambda_powertools.metrics",
    }
    variants = {
        name: functools.partial(milliseconds, functools.partial(run_python, statement, folder))
        for name, statement in statements.items()
    }
    return in_turns(variants, rounds)


def run_python(statement: str, folder: Path) -> None:
    """Run a statement in a new Python process that sees only the package."""
    command = [sys.executable, "-S", "-c", statement]
    subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, check=True)


def report(
    package: Path,
    cold: dict[str, Samples],
    warm: dict[str, Samples],
    memory: dict[str, int],
    imports: dict[str, Samples],
) -> Section:
    """Return all figures with their baselines."""
    powertools = (Figure.of(imports["powertools"]), Figure.of(imports["json and logging"]))
    rows = (
        Row(
            "cold start, to the first image",
            "ms",
            Figure.of(cold["easel"]),
            "bare Chalice app",
            Figure.of(cold["bare chalice"]),
            Aim("ratio", at_most=0.65),
        ),
        Row(
            "cold start, processor time",
            "ms",
            Figure.of(cold["easel, computing"]),
            "bare Chalice app",
            Figure.of(cold["bare chalice, computing"]),
            Aim("ratio", at_most=0.65),
            "excludes other work on the machine",
        ),
        Row(
            "warm request",
            "ms",
            Figure.of(warm["easel"]),
            "bare handler",
            Figure.of(warm["bare handler"]),
            Aim("difference", at_most=3),
        ),
        Row(
            "warm request, processor time",
            "ms",
            Figure(warm["easel, computing"].median),
            "bare handler",
            Figure(warm["bare handler, computing"].median),
            Aim("difference", at_most=3),
            "mean",
        ),
        Row(
            "import of Powertools",
            "ms",
            powertools[0],
            "json and logging",
            powertools[1],
            note="includes the start of Python; part of the cold start",
        ),
        Row(
            "memory, peak",
            "MB",
            _megabytes(memory["easel"]),
            "bare handler",
            _megabytes(memory["bare handler"]),
            Aim("value", at_most=128),
            "the smallest Lambda has 128 MB",
        ),
        Row("zip", "MB", _megabytes(package.stat().st_size), aim=Aim("value", at_most=50)),
        Row("unpacked", "MB", _megabytes(unpacked(package)), aim=Aim("value", at_most=250)),
    )
    return Section("The gateway's Lambda", TEXT, rows, packages=PACKAGES)


def _megabytes(size: int) -> Figure:
    return Figure(round(size / 1e6, 1))


def unpacked(package: Path) -> int:
    """Return the size of a zip's content in bytes."""
    with zipfile.ZipFile(package) as archive:
        return sum(each.file_size for each in archive.infolist())


if __name__ == "__main__":
    print_section(section)
