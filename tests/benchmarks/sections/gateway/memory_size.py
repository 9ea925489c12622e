"""Cold start and warm request by the Lambda's memory size, which sets its share of a core.

    python -m tests.benchmarks.sections.gateway.memory_size

Lambda assigns CPU in proportion to memory. The same package and the same bare Chalice app as in the
section of the gateway run with such a share.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from pathlib import Path

from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction
from tests.benchmarks.lib.cpu_share import MEGABYTES_PER_CORE, NoControlGroup, cpu_share
from tests.benchmarks.lib.gateway.lambda_packages import EVENT, PACKAGES, check, unpack, variables
from tests.benchmarks.lib.gateway.stub_endpoint import stub_endpoint
from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.packages import package_gateway

MEGABYTES = (128, 256, 512, 1024, 1769)
DEPLOYED = 1024  # gateway/.chalice/config.json says so
COLD_ROUNDS, WARM_ROUNDS = 5, 20
TEXT = f"""\
The same Lambda with the share of a core that Lambda assigns by memory size: {MEGABYTES_PER_CORE:,}
MB are one core. A control group's quota sets the share, in periods of 20 ms. Lambda reportedly
gives a function a whole core while it starts; this is not emulated, so cold starts of small sizes
are longer here than on AWS. Easel is deployed with {DEPLOYED:,} MB. On a busy machine a process
does not get all of a large share, so the ratios of the small sizes are the most reliable ones.
"""


class Variant:
    """A packaged Lambda that runs with a share of a core."""

    def __init__(self, folder: Path, environment: dict[str, str], share: float) -> None:
        self.folder, self.environment, self.share = folder, environment, share

    def measure(self, requests: int) -> tuple[float, list[float]]:
        """Return the milliseconds to a new instance's first image, and those of warm requests."""
        function = LambdaFunction(self.folder, self.environment, output=subprocess.DEVNULL)
        with cpu_share(self.share) as processes, function:
            confiner = threading.Thread(target=_confine, args=(function, processes))
            confiner.start()
            first = function.invoke(EVENT)
            confiner.join()
            check(first.payload)
            warm = [function.invoke(EVENT).duration * 1_000 for _ in range(requests)]
            cold = (float(first.init_duration or 0) + first.duration) * 1_000
            return cold, warm[1:]


def _confine(function: LambdaFunction, processes: Path) -> None:
    """Move the instance into the control group within a millisecond of its start."""
    while not function.pids:
        time.sleep(0.001)
    processes.write_text(str(function.pids[0]))


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    sizes, rounds, requests = ((1769,), 2, 3) if quick else (MEGABYTES, COLD_ROUNDS, WARM_ROUNDS)
    with tempfile.TemporaryDirectory() as folder, stub_endpoint() as url:
        package = package_gateway(Path(folder, "package")) / "deployment.zip"
        folders = unpack(package, Path(folder))
        environment = variables(url)
        rows = [
            row for size in sizes for row in _rows(size, folders, environment, rounds, requests)
        ]
    return Section("The Lambda by memory size", TEXT, tuple(rows), packages=PACKAGES)


def _rows(
    size: int, folders: dict[str, Path], environment: dict[str, str], rounds: int, requests: int
) -> list[Row]:
    names = ("easel", "bare chalice")
    share = size / MEGABYTES_PER_CORE
    cold: dict[str, list[float]] = {name: [] for name in names}
    warm: dict[str, list[float]] = {name: [] for name in names}
    try:
        for _ in range(rounds):
            for name in names:
                first, others = Variant(folders[name], environment, share).measure(requests)
                cold[name].append(first)
                warm[name] += others
    except NoControlGroup as error:
        return [Row(f"{size:,} MB", "ms", None, note=f"control groups are unavailable: {error}")]
    return [
        _row(f"{size:,} MB ({share:.2f} of a core): {what}", samples)
        for what, samples in (("cold start", cold), ("warm request", warm))
    ]


def _row(what: str, samples: dict[str, list[float]]) -> Row:
    ours, bare = (Figure.of(Samples(tuple(each))) for each in samples.values())
    return Row(what, "ms", ours, "bare Chalice app", bare, Aim("ratio", at_most=1.0))


if __name__ == "__main__":
    print_section(section)
