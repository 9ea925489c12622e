"""Time to import the gateway, by package.

    python -m tests.benchmarks.sections.gateway.imports

`python -X importtime` in the unpacked and compiled package. tests/gateway/test_imports.py keeps
heavy modules out.
"""

from __future__ import annotations

import functools
import re
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.lib import against
from tests.benchmarks.lib.gateway.lambda_packages import unpack
from tests.benchmarks.lib.measuring import Samples, in_turns, table
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.packages import package_gateway

ROUNDS = 15
SHOWN = 12
TEXT = """\
Processor time of a Python process that runs `import app` in the unpacked package, including the
start of Python. The baseline is what every Chalice app that calls AWS needs: importing chalice and
boto3. Easel imports botocore's clients at the first request for an image, so that pages,
`/api/options`, `/api/health` and rejected requests do not wait for them; it never imports boto3.
"""
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    with tempfile.TemporaryDirectory() as temporary:
        package = package_gateway(Path(temporary, "package")) / "deployment.zip"
        folder = unpack(package, Path(temporary))["easel"]
        statements = {
            "app": "import app",
            "floor": "import boto3, chalice.app",
            "first client": "import app; from chalicelib.aws.clients import LazyClient;"
            " LazyClient('sagemaker-runtime', 1).client()",
        }
        reports: dict[str, list[Counter[str]]] = {name: [] for name in statements}
        variants = {
            name: functools.partial(_measure, statement, folder, reports[name])
            for name, statement in statements.items()
        }
        totals = in_turns(variants, 2 if quick else ROUNDS)
    return _report(totals, reports["app"])


def compare(other: Path, quick: bool = False) -> Section:
    """Measure the import of this gateway against another checkout's."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = against.unpack_gateways(Path(temporary), other)
        variants = {
            name: functools.partial(_measure, "import app", folder, [])
            for name, folder in folders.items()
        }
        totals = in_turns(variants, 2 if quick else ROUNDS)
    figures = {name: Figure.of(samples) for name, samples in totals.items()}
    rows = [against.row("import of the gateway, processor time", "ms", figures)]
    return against.section("Importing the gateway", rows, packages=("boto3", "chalice"))


def _report(totals: dict[str, Samples], runs: list[Counter[str]]) -> Section:
    floor = Figure.of(totals["floor"])
    rows = (
        Row(
            "import of the gateway",
            "ms",
            Figure.of(totals["app"]),
            "chalice and boto3",
            floor,
            Aim("ratio", at_most=1.0),
        ),
        Row(
            "import and first AWS client",
            "ms",
            Figure.of(totals["first client"]),
            "chalice and boto3",
            floor,
            note="the baseline does not create a client",
        ),
    )
    medians = _medians(runs)
    largest = sorted(medians.items(), key=lambda item: -item[1])[:SHOWN]
    whole = sum(medians.values())
    shown = table(
        ("package", "share"), [(f"`{name}`", f"{ms / whole:.0%}") for name, ms in largest]
    )
    details = (
        "The time of `import app` by package, without the imports of each "
        f"(`python -X importtime`):\n\n{shown}"
    )
    return Section("Importing the gateway", TEXT, rows, details, ("boto3", "chalice"))


def _medians(runs: list[Counter[str]]) -> dict[str, float]:
    names = {name for run in runs for name in run}
    return {name: Samples(tuple(run[name] for run in runs)).median for name in names}


def _measure(statement: str, folder: Path, reports: list[Counter[str]]) -> float:
    """Return the milliseconds of processor time; append those of imports to `reports`."""
    before = _computed()
    done = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", "-c", statement],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "AWS_DEFAULT_REGION": "us-east-1"},
        check=True,
        capture_output=True,
        text=True,
    )
    reports.append(parse(done.stderr))
    return _computed() - before


def _computed() -> float:
    """Return the processor time of ended child processes, in milliseconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1_000


def parse(report: str) -> Counter[str]:
    """Return the milliseconds of each top-level package in a report of `-X importtime`."""
    milliseconds: Counter[str] = Counter()
    for microseconds, module in _LINE.findall(report):
        milliseconds[module.partition(".")[0]] += int(microseconds) / 1_000  # type: ignore[assignment]
    return milliseconds


if __name__ == "__main__":
    print_section(section)
