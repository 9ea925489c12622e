"""What the Lambda's memory size does to it: cold start and warm visit by the share of a core.

    python -m tests.benchmarks.sections.memory_size

Lambda gives a function as much of a core as it gives it memory. The same package as in the section
of the gateway, and the same bare Chalice app, run with such a share.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from pathlib import Path

from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction
from tests.benchmarks.lib.cpu_share import MEGABYTES_PER_CORE, NoControlGroup, cpu_share
from tests.benchmarks.lib.lambda_packages import EVENT, PACKAGES, check, unpack, variables
from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, run_alone
from tests.benchmarks.lib.stub_endpoint import stub_endpoint
from tests.packages import package_gateway

MEGABYTES = (128, 256, 512, 1024, 1769)
DEPLOYED = 1024  # gateway/.chalice/config.json says so
COLD_ROUNDS, WARM_ROUNDS = 5, 20
TEXT = f"""\
The Lambda again, with the share of a core that Lambda gives by memory size: {MEGABYTES_PER_CORE:,}
MB are one core. The share is set with a control group's quota, in periods of 20 ms. Lambda is
reported to lend a function a whole core while it starts; that is not imitated, so cold starts of
small sizes look worse here than they should be on AWS. Easel is deployed with {DEPLOYED:,} MB.
Where the machine has more work than cores, a process gets less than a large share: the small sizes
tell the ratio best.
"""


class Variant:
    """A packaged Lambda that runs with a share of a core."""

    def __init__(self, folder: Path, environment: dict[str, str], share: float) -> None:
        self.folder, self.environment, self.share = folder, environment, share

    def measure(self, visits: int) -> tuple[float, list[float]]:
        """Return the milliseconds of a new instance's first picture, and of those after it."""
        function = LambdaFunction(self.folder, self.environment, output=subprocess.DEVNULL)
        with cpu_share(self.share) as processes, function:
            confiner = threading.Thread(target=_confine, args=(function, processes))
            confiner.start()
            first = function.invoke(EVENT)
            confiner.join()
            check(first.payload)
            warm = [function.invoke(EVENT).duration * 1_000 for _ in range(visits)]
            cold = (float(first.init_duration or 0) + first.duration) * 1_000
            return cold, warm[1:]


def _confine(function: LambdaFunction, processes: Path) -> None:
    """Move the instance into the control group as soon as it is there, within a millisecond."""
    while not function.pids:
        time.sleep(0.001)
    processes.write_text(str(function.pids[0]))


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    sizes, rounds, visits = ((1769,), 2, 3) if quick else (MEGABYTES, COLD_ROUNDS, WARM_ROUNDS)
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        package = package_gateway(Path(folder, "package")) / "deployment.zip"
        folders = unpack(package, Path(folder))
        environment = variables(url)
        rows = [row for size in sizes for row in _rows(size, folders, environment, rounds, visits)]
    return Section("The Lambda by memory size", TEXT, tuple(rows), packages=PACKAGES)


def _rows(
    size: int, folders: dict[str, Path], environment: dict[str, str], rounds: int, visits: int
) -> list[Row]:
    names = ("easel", "bare chalice")
    share = size / MEGABYTES_PER_CORE
    cold: dict[str, list[float]] = {name: [] for name in names}
    warm: dict[str, list[float]] = {name: [] for name in names}
    try:
        for _ in range(rounds):
            for name in names:
                first, others = Variant(folders[name], environment, share).measure(visits)
                cold[name].append(first)
                warm[name] += others
    except NoControlGroup as error:
        return [Row(f"{size:,} MB", "ms", None, note=f"no control group here: {error}")]
    return [
        _row(f"{size:,} MB ({share:.2f} of a core): {what}", samples)
        for what, samples in (("cold start", cold), ("warm visit", warm))
    ]


def _row(what: str, samples: dict[str, list[float]]) -> Row:
    ours, bare = (Figure.of(Samples(tuple(each))) for each in samples.values())
    return Row(what, "ms", ours, "bare Chalice app", bare, Aim("ratio", at_most=1.5))


if __name__ == "__main__":
    run_alone(section)
