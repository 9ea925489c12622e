"""AWS calls of the endpoint scripts, and their time against moto.

    python -m tests.benchmarks.sections.endpoint.endpoint_life [--rounds 5]

moto runs in this process, so the time is that of the scripts, botocore and moto; AWS adds the
network and the minutes to start an instance.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from endpoint import create_endpoint, delete_endpoint
from endpoint.commands import status
from endpoint.provision.files import payload
from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.lib.report import Figure, Row, Section, print_section
from tests.endpoint.world import IMAGE, World, empty_account

ROUNDS = 5
TEXT = """\
The time to create an endpoint, to show its status and to delete it, without AWS's own minutes: the
scripts, botocore and moto in one process. There is no baseline. AWS adds the network and the start
of an instance.
"""


def measure(world: World, main: Any, *arguments: str) -> tuple[int, float]:
    """Return the calls and seconds of one run."""
    calls, start = len(world.calls), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = world.run(main, *arguments)
    seconds = time.perf_counter() - start
    if code:
        raise SystemExit(f"{main.__module__} failed")
    return len(world.calls) - calls, seconds


def life_cycle(model: str) -> dict[str, tuple[int, float]]:
    """Return the calls and seconds of each script in an endpoint's life cycle."""
    create = ("--model", model, "--image", IMAGE, "--yes")
    with empty_account() as world:
        return {
            "create": measure(world, create_endpoint.main, *create),
            "create again": measure(world, create_endpoint.main, *create),
            "status": measure(world, status.main),
            "delete": measure(world, delete_endpoint.main, "--yes"),
        }


def section(quick: bool = False, rounds: int = ROUNDS) -> Section:
    """Measure all of it."""
    rounds = 2 if quick else rounds
    with tempfile.TemporaryDirectory() as folder, _small_payload(Path(folder)):
        rows = [row for model in ("sd", "sdxl") for row in _rows(model, rounds)]
    return Section("The endpoint's scripts", TEXT, tuple(rows), packages=("boto3", "moto"))


@contextlib.contextmanager
def _small_payload(folder: Path) -> Iterator[None]:
    """Upload serving code of two lines, because packing the real one is not measured."""
    (folder / "inference.py").write_text("import generation\n")
    (folder / "generation.py").write_text("STEPS = 25\n")
    code, payload.CODE = payload.CODE, folder
    try:
        yield
    finally:
        payload.CODE = code


def _rows(model: str, rounds: int) -> list[Row]:
    life_cycle(model)  # the first run includes botocore loading its service descriptions
    runs = [life_cycle(model) for _ in range(rounds)]
    return [
        Row(
            f"{model}, {step}",
            "ms",
            Figure.of(Samples(tuple(run[step][1] * 1_000 for run in runs))),
            note=f"{runs[0][step][0]} calls",
        )
        for step in runs[0]
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    print_section(lambda: section(rounds=rounds))


if __name__ == "__main__":
    main()
