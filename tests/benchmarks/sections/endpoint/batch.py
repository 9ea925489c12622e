"""A batch through an asynchronous endpoint, against the model's own speed.

    python -m tests.benchmarks.sections.endpoint.batch

The script, SageMaker's queue, S3 and the autoscaling are emulated in this process; the model server
is a double that needs a set time for a picture and paints one at a time. Its own speed is that of
the time that it has painted in all, so that both figures are of the same run.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from endpoint.commands import batch
from endpoint.emulator.process.clients import environment
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.endpoint.batch_account import account
from tests.endpoint.world import REGION

PICTURES = 1_000
SECONDS = 0.25  # of a picture: faster than any model of the catalogue
TEXT = """\
`python -m endpoint batch` with 1,000 prompts and an asynchronous endpoint of one instance, in the
emulated AWS. The model server is a double that needs 0.25 s for a picture and paints one at a time;
its own speed is that of the time that it has painted in all. The time of the batch is that of the
whole command: reading the file, filling the queue, fetching and storing the pictures, the results
and the contact sheet.
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
    with account(SECONDS) as (aws, model), _folder() as folder:
        file = folder / "prompts.txt"
        file.write_text("\n".join(f"picture {number}" for number in range(pictures)))
        arguments = [str(file), "--out", str(folder / "pictures"), "--yes"]
        started = time.perf_counter()
        with (
            mock.patch.dict(os.environ, environment(aws.url, REGION)),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            code = batch.main(arguments)
        took = time.perf_counter() - started
        if code or len(model.painted) != pictures:
            raise RuntimeError(f"the batch ended with {code}")
        return took, model.busy


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    print_section(section)
