"""Memory over half an hour of visitors: whether anything grows.

    python -m tests.benchmarks.sections.memory_growth [--minutes 30]

A few visitors keep asking, each in turns for a real-time and for an asynchronous picture, and for
each only once. The resident memory of every process is looked at all the while.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import linear_regression, mean, median

from tests.benchmarks.lib.load_world import running
from tests.benchmarks.lib.processes import below, megabytes
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, run_alone
from tests.benchmarks.lib.visitors import Crowd, visit_for

MODELS = ("sd", "sdxl")  # real-time and asynchronous, as `load_world` names them
VISITORS = 4
PAUSE_SECONDS = 1.0
LOOKS = 200
# How much of the time is the beginning, and how much the end.
SHARE = 0.1
WARM_UP_SECONDS = 20.0
KEPT_SECONDS = 20.0
TEXT = """\
{visitors} visitors ask for {minutes:g} minutes, each in turns for a real-time and for an
asynchronous picture of 300 kB that nobody has asked for before, and look at each for {pause:g} s;
the first {warm:g} s are not counted. Pictures leave the emulated S3, which is memory, after
{kept:g} s, as the bucket's lifecycle rule lets them after days. Resident memory was read {looks}
times all the while: Easel's column is the median of the last tenth of the time, the baseline that
of the first. Growth is the slope of the straight line that fits all of it best (least squares).
"""


@dataclass
class Part:
    """What one kind of process had at each look.

    Attributes:
        hours: since the beginning.
        megabytes: the mean of all processes of that kind.
    """

    hours: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def add(self, hours: float, sizes: list[float]) -> None:
        """Note one look; processes that have ended are not in it."""
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
        """Megabytes an hour, by least squares."""
        return linear_regression(self.hours, self.megabytes).slope

    def _share(self) -> int:
        return max(round(len(self.megabytes) * SHARE), 1)


def section(quick: bool = False, minutes: float = 30.0) -> Section:
    """Measure all of it."""
    minutes = 0.1 if quick else minutes
    pause = 0.1 if quick else PAUSE_SECONDS
    warm = min(WARM_UP_SECONDS, minutes * 60 / 5)
    models = itertools.cycle(MODELS)
    with running() as world:

        def visitors(seconds: float) -> Crowd:
            return visit_for(seconds, VISITORS, lambda: world.picture(next(models)), pause)

        visitors(warm)
        parts, crowd = watched(
            {
                "a Lambda": world.lambdas,
                "API Gateway, emulated": lambda: [world.gateway.process.pid],
                "AWS, emulated": lambda: [world.cloud.process.pid],
                "the model server": lambda: list(below(world.model.process.pid)),
            },
            lambda: visitors(minutes * 60),
            minutes * 60 / LOOKS,
            lambda: world.forget_pictures(KEPT_SECONDS),
        )
        count = len(world.lambdas())
    return report(parts, crowd, minutes, warm, count)


def watched(
    kinds: Mapping[str, Callable[[], list[int]]],
    visit: Callable[[], Crowd],
    pause: float,
    tidy: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Part], Crowd]:
    """Look at processes by their kind while `visit` runs.

    Args:
        kinds: the process ids of each kind, as they are at the moment.
        visit: what they are busy with.
        pause: seconds between two looks.
        tidy: is done before each look.

    Returns:
        What the processes of each kind had, and what `visit` returned.
    """
    parts = {name: Part() for name in kinds}
    started, done = time.monotonic(), threading.Event()

    def look() -> None:
        while not done.wait(pause):
            tidy()
            hours = (time.monotonic() - started) / 3_600
            for name, processes in kinds.items():
                parts[name].add(hours, [megabytes(pid) for pid in processes()])

    looking = threading.Thread(target=look)
    looking.start()
    try:
        return parts, visit()
    finally:
        done.set()
        looking.join()


def report(
    parts: Mapping[str, Part], crowd: Crowd, minutes: float, warm: float, count: int
) -> Section:
    """Return all figures."""
    if crowd.pictures == 0:
        raise RuntimeError(f"no pictures: {crowd.refused}")
    text = TEXT.format(
        visitors=VISITORS,
        minutes=minutes,
        pause=PAUSE_SECONDS,
        warm=warm,
        looks=LOOKS,
        kept=KEPT_SECONDS,
    )
    rows = [_row(name, part) for name, part in parts.items()]
    refused = sum(crowd.refused.values())
    details = (
        f"{crowd.pictures:,} pictures came, {refused} visits were refused; {count} Lambdas ran. "
        "What a part of the emulator holds is its own: on AWS there is none of it."
    )
    title = "Memory over half an hour"
    return Section(title, text, tuple(rows), details, ("chalice", "boto3", "moto", "aiohttp"))


def _row(name: str, part: Part) -> Row:
    return Row(
        f"memory of {name}",
        "MB",
        Figure(round(part.last, 1)),
        "at the beginning",
        Figure(round(part.first, 1)),
        Aim("ratio", at_most=1.05),
        f"growth {part.slope:+.1f} MB an hour",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Whether memory grows.")
    parser.add_argument("--minutes", type=float, default=30, help="how long visitors ask")
    asked = parser.parse_args()
    run_alone(lambda: section(minutes=asked.minutes))


if __name__ == "__main__":
    main()
