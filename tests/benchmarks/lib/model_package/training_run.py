"""A trainer in a process of its own, which trains some steps whenever it is asked to.

    python -m tests.benchmarks.lib.model_package.training_run easel|script FOLDER

`FOLDER` has the channels of a training job. For each line on its standard input, a number of steps,
the process writes a line of JSON: their seconds, its processor seconds, and its peak memory so far.
With the end of its input it ends.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from diffusers import UNet2DConditionModel

from model_package.training import __main__ as trainer
from model_package.training import dataset
from model_package.training.adapter import Adapter, _is_trained
from model_package.training.base_model import load
from model_package.training.job import Job, read_fields
from model_package.training.loop import Loop, Stopped
from tests.benchmarks.lib.model_package.diffusers_script import ATTENTION, DiffusersScript, Options
from tests.packages import ROOT

EASEL, SCRIPT, SAME_LAYERS = "easel", "script", "same-layers"


@dataclass(frozen=True)
class Steps:
    """What some steps took, each on average; memory in MB is the process's peak, or the GPU's."""

    seconds: float
    processor: float
    megabytes: float


class Run:
    """A trainer's process.

    Args:
        kind: Easel's trainer, the script, or the script with the layers that Easel trains.
        home: the folder of a job; each run has its own checkpoints in it.
    """

    def __init__(self, kind: str, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, kind, str(home)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def steps(self, count: int) -> Steps:
        """Train some steps.

        Raises:
            RuntimeError: if the process has ended, such as for lack of memory.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the trainer ended with {self._process.wait()}")
        return Steps(**json.loads(line))


class Meter:
    """Counts steps, and waits for the next request after each group of them."""

    def __init__(self) -> None:
        self._left = self._count = 0
        self._started = (0.0, 0.0)
        self._answers = sys.stdout

    def wait(self) -> bool:
        """Wait for a request; return False at the end of the input."""
        line = sys.stdin.readline()
        if not line:
            return False
        self._left = self._count = int(line)
        self._started = time.perf_counter(), time.process_time()
        return True

    def step(self) -> bool:
        """Count a step; return False at the end of the input."""
        self._left -= 1
        if self._left:
            return True
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds, processor = self._started
        took = {
            "seconds": (time.perf_counter() - seconds) / self._count,
            "processor": (time.process_time() - processor) / self._count,
            "megabytes": peak_megabytes(),
        }
        print(json.dumps(took), file=self._answers, flush=True)
        return self.wait()


def peak_megabytes() -> float:
    """Return the peak memory: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def train(kind: str, home: Path, meter: Meter) -> None:
    """Train until the meter's input ends."""
    if kind == EASEL:
        _easel(home, meter)
    else:
        _script(home, meter, same_layers=kind == SAME_LAYERS)


def _easel(home: Path, meter: Meter) -> None:
    channels = home / "input" / "data"
    job = Job.from_dict(read_fields(channels / "job" / "job.json"))
    items, _ = dataset.read_folder(channels / "pictures", job)
    base = load(channels / "model", job.precision)
    data = trainer.prepare(job, base, items, [])
    adapter = Adapter(base, job)
    loop = Loop(job, base, adapter, data, steps=job.steps or 1, folder=home / "checkpoints",
                fingerprint="", stopped=lambda: not meter.step())  # fmt: skip
    if meter.wait():
        with suppress(Stopped):
            loop.run()


def _script(home: Path, meter: Meter, *, same_layers: bool) -> None:
    channels = home / "input" / "data"
    job = Job.from_dict(read_fields(channels / "job" / "job.json"))
    names = layers(channels / "model", job) if same_layers else ATTENTION
    options = Options(
        resolution=job.resolution or 512,
        train_batch_size=job.batch_size,
        rank=job.rank,
        learning_rate=job.rate,
        snr_gamma=job.min_snr,
        max_train_steps=job.steps or 1,
        gradient_checkpointing=bool(job.gradient_checkpointing),
        mixed_precision="bf16" if torch.cuda.is_available() else "no",
        layers=names,
    )
    script = DiffusersScript(channels / "model", channels / "pictures", options)
    if meter.wait():
        for _ in script.steps():
            if not meter.step():
                return


def layers(model: Path, job: Job) -> list[str]:
    """Return the names of the UNet's layers that Easel trains."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(model, subfolder="unet")
        )
    kinds = torch.nn.Linear | torch.nn.Conv2d
    return [name for name, layer in unet.named_modules()
            if isinstance(layer, kinds) and _is_trained("unet", f".{name}.", job)]  # fmt: skip


def main() -> None:
    """Read the command line and train."""
    torch.set_num_threads(1)
    meter = Meter()
    with redirect_stdout(sys.stderr):  # what trainers print is no answer
        train(sys.argv[1], Path(sys.argv[2]), meter)


if __name__ == "__main__":
    main()
