"""Training a LoRA adapter, against the loop of diffusers' own script.

    python -m tests.benchmarks.sections.model_package.training [--models demo,sd,sdxl] [--rounds 7]

The same six pictures, rank, batch and resolution for all. Each trainer runs in a process of its
own, and they train some steps in turns; `lib/model_package/diffusers_script.py` says what the
script's loop is. The demo model trains on one thread of the CPU. Stable Diffusion 1.5 and SDXL have
random weights and their full size, and require a CUDA GPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.lib.model_package.full_size import MODELS, make
from tests.benchmarks.lib.model_package.training_run import EASEL, SAME_LAYERS, SCRIPT, Run, Steps
from tests.benchmarks.lib.model_package.variants import DEMO
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.model_package.training import zorble

TEXT = """
A step of training a LoRA adapter, against the loop of diffusers' own scripts (text to image, and
DreamBooth for SDXL), which encode pictures and texts again in each step: six pictures made by a
script, and the same rank, batch, resolution and number type. Easel trains all linear layers of the
UNet's transformers, as kohya's scripts do, and diffusers' script the four projections of each
attention, so the script is measured with both. The trainers are processes of their own that train
in turns, on one thread of the CPU; processor time is what a busy machine distorts least. Memory is
the peak of the process, libraries included, or of the GPU. Without gradient checkpointing, except
where a row says so. Nothing was measured on a GPU yet, and that part of the benchmark is untried.

On the CPU the aim is for processor time, as other programs distort the time by the clock. Nearly
all of a step is the UNet's forward and backward pass, which all trainers have: of a batch of four
it takes 84 ms of processor time, the optimizer 1 ms, pictures and noise 0.1 ms. What Easel saves
are the VAE and the text encoder, which are small in the bundled model. On the same machine at a
load of 1.4 a step took 73 ms, and 112 ms in diffusers' script with the same layers: a ratio of
0.65 in both times.
"""
_LAYERS, _ITSELF = "diffusers' script, same layers", "diffusers' script"
_PARTS = {EASEL: "Easel", SAME_LAYERS: _LAYERS, SCRIPT: _ITSELF}


@dataclass(frozen=True)
class Spec:
    """A model, and how it is trained.

    Attributes:
        side: of the pictures, in pixels.
        job: fields of the job.
        aim: of the time of a step, against the script with the same layers.
        memory: the largest peak in MB, or None.
    """

    side: int
    job: Mapping[str, Any] = field(default_factory=dict)
    aim: float = 0.5
    memory: float | None = None


SPECS = {
    "demo": Spec(128, {"batch_size": 4, "rank": 8, "rate": 1e-3}, 0.6),
    "sd": Spec(512, {"batch_size": 1, "rank": 16}),
    "sdxl": Spec(1024, {"batch_size": 1, "rank": 16}, memory=16_000),
}


def make_home(folder: Path, model: Path, spec: Spec, checkpointing: bool) -> Path:
    """Write the channels of a training job, and return its folder."""
    channels = folder / "input" / "data"
    for name in ("pictures", "job"):
        (channels / name).mkdir(parents=True)
    zorble.write(channels / "pictures", side=spec.side)
    (channels / "model").symlink_to(model)
    job = {"name": "zorble", "resolution": spec.side, "steps": 20_000, "validate_every": 20_000,
           "gradient_checkpointing": checkpointing, **spec.job}  # fmt: skip
    (channels / "job" / "job.json").write_text(json.dumps(job))
    return folder


def in_turns(
    home: Path, kinds: Mapping[str, str], rounds: int, count: int
) -> dict[str, list[Steps]]:
    """Return what each trainer's steps took: each trains `count` steps in each round."""
    taken: dict[str, list[Steps]] = {kind: [] for kind in kinds}
    with ExitStack() as stack:
        runs = {kind: stack.enter_context(Run(kind, home)) for kind in kinds}
        for run in runs.values():
            run.steps(min(count, 3))  # the first ones prepare much
        for _ in range(rounds):
            for kind, run in runs.items():
                taken[kind].append(run.steps(count))
    return taken


def rows_of(name: str, home: Path, rounds: int, count: int, note: str = "") -> Iterator[Row]:
    """Measure a model."""
    spec = SPECS[name]
    taken = in_turns(home, _PARTS, rounds, count)
    cuda = torch.cuda.is_available()
    figures = {"time of a step": "seconds"} if cuda else {"processor time of a step": "processor",
                                                          "time of a step": "seconds"}  # fmt: skip
    for what, attribute in figures.items():
        values = {kind: _figure(taken[kind], attribute) for kind in taken}
        for kind in (SAME_LAYERS, SCRIPT):
            is_aim = kind == SAME_LAYERS and (cuda or attribute == "processor")
            aim = Aim("ratio", at_most=spec.aim) if is_aim else None
            yield Row(f"{name}, {what}", "ms", values[EASEL], _PARTS[kind], values[kind], aim, note)
    peaks = {kind: Figure(max(steps.megabytes for steps in taken[kind])) for kind in taken}
    aim = Aim("value", at_most=spec.memory) if spec.memory else None
    yield Row(f"{name}, peak memory", "MB", peaks[EASEL], _LAYERS, peaks[SAME_LAYERS], aim, note)


def _figure(steps: list[Steps], attribute: str) -> Figure:
    return Figure.of(Samples(tuple(getattr(one, attribute) * 1_000 for one in steps)))


def measure(name: str, rounds: int, count: int) -> Iterator[Row]:
    """Measure a model; on a GPU, with and without gradient checkpointing."""
    if name != "demo" and not torch.cuda.is_available():
        yield Row(f"{name}, time of a step", "ms", None, _LAYERS, note="needs a GPU")
        return
    with TemporaryDirectory() as place:
        folder = Path(place)
        model = DEMO if name == "demo" else folder / "model"
        if name != "demo":
            _save(name, model)
        for checkpointing in (False,) if name == "demo" else (True, False):
            home = make_home(folder / f"job-{checkpointing}", model, SPECS[name], checkpointing)
            note = "with gradient checkpointing" if checkpointing else ""
            yield from rows_of(name, home, rounds, count, note)
            shutil.rmtree(home)


def _save(name: str, folder: Path) -> None:
    """Write a model of full size with random weights."""
    (pipeline,) = make(MODELS[name], torch.float16, torch.device("cuda"))
    pipeline.save_pretrained(folder)
    del pipeline
    torch.cuda.empty_cache()


def section(quick: bool = False, names: tuple[str, ...] = tuple(SPECS), rounds: int = 7) -> Section:
    """Measure all models; without a GPU, the demo model."""
    rounds, count = (2, 1) if quick else (max(rounds, 2), 10)
    rows = [row for name in names for row in measure(name, rounds, count)]
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    packages = ("torch", "diffusers", "transformers", "peft", "accelerate")
    return Section("Training", TEXT, tuple(rows), "", packages, hardware)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure training.")
    parser.add_argument("--models", default=",".join(SPECS), help="separated by commas")
    parser.add_argument("--rounds", type=int, default=7, help="at least 2")
    options = parser.parse_args()
    names = tuple(options.models.split(","))
    if unknown := set(names) - set(SPECS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print_section(lambda: section(names=names, rounds=options.rounds))


if __name__ == "__main__":
    main()
