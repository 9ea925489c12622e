"""How many AWS calls the endpoint's scripts make, and how long they take against moto.

    python -m tests.benchmarks.endpoint_life [--rounds 5]

moto answers in this process, so the time is the scripts' own, botocore's and moto's; AWS adds the
network, and its own minutes to start an instance.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from endpoint import create_endpoint, delete_endpoint, payload, status
from tests.endpoint.world import IMAGE, World, empty_account


def measure(world: World, main: Any, *arguments: str) -> tuple[int, float]:
    """Return the calls and seconds of one run."""
    calls, start = len(world.calls), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = world.run(main, *arguments)
    seconds = time.perf_counter() - start
    if code:
        raise SystemExit(f"{main.__module__} failed")
    return len(world.calls) - calls, seconds


def life(model: str) -> dict[str, tuple[int, float]]:
    """Return what each step of one endpoint's life takes."""
    create = ("--model", model, "--image", IMAGE, "--yes")
    with empty_account() as world:
        return {
            "create": measure(world, create_endpoint.main, *create),
            "create again": measure(world, create_endpoint.main, *create),
            "status": measure(world, status.main),
            "delete": measure(world, delete_endpoint.main, "--yes"),
        }


def main() -> None:
    """Print one line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp())
    (folder / "inference.py").write_text("import generation\n")
    (folder / "generation.py").write_text("STEPS = 25\n")
    payload.CODE = folder
    for model in ("sd", "sdxl"):
        life(model)  # botocore reads its service descriptions once
        runs = [life(model) for _ in range(rounds)]
        for step in runs[0]:
            seconds = statistics.median(run[step][1] for run in runs)
            print(f"{model:5} {step:13} {runs[0][step][0]:3} calls  {seconds * 1000:6.0f} ms")


if __name__ == "__main__":
    main()
