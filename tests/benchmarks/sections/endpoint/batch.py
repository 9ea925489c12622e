"""A batch through an asynchronous endpoint, against the model's own speed.

    python -m tests.benchmarks.sections.endpoint.batch

The script runs in a process of its own; AWS is emulated in this one. The model server is a double
that needs a set time for a picture, one at a time. Its own speed is that of the time in which it
was busy, so that both figures are of the same run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from endpoint.emulator.process.clients import environment
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.endpoint.batch_account import account
from tests.endpoint.world import REGION
from tests.packages import ROOT

PICTURES = 1_000
SECONDS = 0.25  # of a picture: faster than any model of the catalogue
TEXT = """\
`python -m endpoint batch` with 1,000 prompts and an asynchronous endpoint of one instance, in the
emulated AWS. The model server is a double that needs 0.25 s for a picture, one at a time; its own
speed is that of the time in which it was busy. The time of the batch is that of the whole command:
its start, reading the file, filling the queue, fetching and storing the pictures, the results and
the contact sheet.
"""


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    pictures = 20 if quick else PICTURES
    took, busy = painted(pictures)
    row = Row(
        f"a batch of {pictures:,}",
        "pictures a minute",
        Figure(60 * pictures / took),
        "the model's own speed",
        Figure(60 * pictures / busy),
        Aim("ratio", at_least=0.95),
    )
    return Section("Batches", TEXT, (row,), packages=("boto3", "moto"))


def painted(pictures: int) -> tuple[float, float]:
    """Return the seconds of a batch, and those in which the model server painted."""
    with account(SECONDS) as (aws, model), tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "prompts.txt")
        file.write_text("\n".join(f"picture {number}" for number in range(pictures)))
        command = [sys.executable, "-m", "endpoint", "batch", str(file)]
        command += ["--out", str(Path(folder, "pictures")), "--yes"]
        started = time.perf_counter()
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment(aws.url, REGION)},
            check=True,
            capture_output=True,
        )
        took = time.perf_counter() - started
        if len(model.painted) != pictures:
            raise RuntimeError(f"{len(model.painted)} pictures were asked for")
        return took, model.busy


if __name__ == "__main__":
    print_section(section)
