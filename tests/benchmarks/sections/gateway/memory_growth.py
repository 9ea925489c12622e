"""Memory over half an hour of requests: whether it grows.

    python -m tests.benchmarks.sections.gateway.memory_growth [--minutes 30]

A few clients request real-time and asynchronous images alternately, each image once. The resident
memory of every process is polled meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import linear_regression, mean, median

from tests.benchmarks.lib.gateway.clients import ClientResults, run_clients
from tests.benchmarks.lib.gateway.deployment import deployed
from tests.benchmarks.lib.processes import megabytes, process_tree
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section

MODELS = ("sd", "sdxl")  # real-time and asynchronous, as in deployment.py
CLIENTS = 4
PAUSE_SECONDS = 1.0
POLLS = 200
# The beginning and the end, each as a share of the time.
SHARE = 0.1
WARM_UP_SECONDS = 20.0
KEPT_SECONDS = 20.0
TEXT = """\
{clients} clients send requests for {minutes:g} minutes, alternately for a new real-time and a new
asynchronous image of 300 kB, with a pause of {pause:g} s after each; the first {warm:g} s are not
counted. The emulated S3, which keeps objects in memory, deletes images after {kept:g} s, as the
bucket's lifecycle rule does after days. Resident memory is read {polls} times: Easel's column is
the median of the last tenth of the time, the baseline that of the first. Growth is the slope of a
least-squares line.
"""


@dataclass
class ProcessMemory:
    """The memory of one kind of process at each poll.

    Attributes:
        hours: since the start.
        megabytes: the mean of the processes of that kind.
    """

    hours: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def add(self, hours: float, sizes: list[float]) -> None:
        """Add one poll; processes that have ended, with a size of 0, do not count."""
        if living := [size for size in sizes if size]:
            self.hours.append(hours)
            self.megabytes.append(mean(living))

    @property
    def first(self) -> float:
        return median(self.megabytes[: self._share()])

    @property
    def last(self) -> float:
        return median(self.megabytes[-self._share() :])

    @property
    def slope(self) -> float:
        """Megabytes per hour, by least squares."""
        return linear_regression(self.hours, self.megabytes).slope

    def _share(self) -> int:
        return max(round(len(self.megabytes) * SHARE), 1)


def section(quick: bool = False, minutes: float = 30.0) -> Section:
    """Measure all of it."""
    minutes = 0.1 if quick else minutes
    pause = 0.1 if quick else PAUSE_SECONDS
    warm = min(WARM_UP_SECONDS, minutes * 60 / 5)
    models = itertools.cycle(MODELS)
    with deployed() as deployment:

        def run(seconds: float) -> ClientResults:
            return run_clients(seconds, CLIENTS, lambda: deployment.image_url(next(models)), pause)

        run(warm)
        memory, results = poll_memory(
            {
                "a Lambda": deployment.lambdas,
                "API Gateway, emulated": lambda: [deployment.gateway.process.pid],
                "AWS, emulated": lambda: [deployment.cloud.process.pid],
                "the model server": lambda: list(process_tree(deployment.model.process.pid)),
            },
            lambda: run(minutes * 60),
            minutes * 60 / POLLS,
            lambda: deployment.delete_old_images(KEPT_SECONDS),
        )
        count = len(deployment.lambdas())
    return report(memory, results, minutes, warm, count)


def poll_memory(
    kinds: Mapping[str, Callable[[], list[int]]],
    run: Callable[[], ClientResults],
    pause: float,
    clean_up: Callable[[], None] = lambda: None,
) -> tuple[dict[str, ProcessMemory], ClientResults]:
    """Poll the memory of processes while `run` runs.

    Args:
        kinds: return the current process ids of each kind.
        run: sends the requests.
        pause: seconds between two polls.
        clean_up: runs before each poll.

    Returns:
        The memory of each kind, and the result of `run`.
    """
    memory = {name: ProcessMemory() for name in kinds}
    started, done = time.monotonic(), threading.Event()

    def poll() -> None:
        while not done.wait(pause):
            clean_up()
            hours = (time.monotonic() - started) / 3_600
            for name, processes in kinds.items():
                memory[name].add(hours, [megabytes(pid) for pid in processes()])

    polling = threading.Thread(target=poll)
    polling.start()
    try:
        return memory, run()
    finally:
        done.set()
        polling.join()


def report(
    memory: Mapping[str, ProcessMemory],
    results: ClientResults,
    minutes: float,
    warm: float,
    count: int,
) -> Section:
    """Return the section of a run."""
    if results.images == 0:
        raise RuntimeError(f"no images: {results.errors}")
    text = TEXT.format(
        clients=CLIENTS,
        minutes=minutes,
        pause=PAUSE_SECONDS,
        warm=warm,
        polls=POLLS,
        kept=KEPT_SECONDS,
    )
    rows = [_row(name, each) for name, each in memory.items()]
    errors = sum(results.errors.values())
    details = (
        f"{results.images:,} images were delivered, {errors} requests failed; {count} Lambdas ran. "
        "Memory of the emulator has no counterpart on AWS."
    )
    title = "Memory over half an hour"
    return Section(title, text, tuple(rows), details, ("chalice", "boto3", "moto", "aiohttp"))


def _row(name: str, memory: ProcessMemory) -> Row:
    return Row(
        f"memory of {name}",
        "MB",
        Figure(round(memory.last, 1)),
        "first tenth",
        Figure(round(memory.first, 1)),
        Aim("ratio", at_most=1.05),
        f"growth {memory.slope:+.1f} MB per hour",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Whether memory grows.")
    parser.add_argument("--minutes", type=float, default=30, help="how long clients send requests")
    options = parser.parse_args()
    print_section(lambda: section(minutes=options.minutes))


if __name__ == "__main__":
    main()
