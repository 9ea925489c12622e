"""The model's speed on a GPU: plain diffusers, the ancestor's way, and each of Easel's settings.

    python -m tests.benchmarks.gpu [--models sd,sd-turbo,sdxl,sdxl-refiner] [--variants ...]
        [--rounds 5] [--minutes 9] [--out FILE.json]

One command on a machine with a CUDA GPU, torch, diffusers, transformers, accelerate and no
network: the models are as large as the published ones, with random weights (`full_size.py`).
Variants that fail or do not fit into the minutes are left out, and said to be.

`--models demo` measures the bundled model, on any machine. Since its weights are real, how close a
picture comes to plain diffusers' means something there: it is the peak signal-to-noise ratio of
the pixels, and from 40 dB on two pictures are not to be told apart.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "model_package" / "code"))
import easel_precision
import easel_vae
from easel_answers import encode_file
from easel_compile import Compiler
from easel_defaults import Defaults
from easel_painter import Painter
from easel_pipeline import load_pipeline
from easel_quiet import without_warnings
from easel_speed import Speed, SpeedSettings
from generation import GenerationRequest
from tests.benchmarks.full_size import KINDS, Kind, make
from tests.benchmarks.measuring import Samples, busy, in_turns
from tests.benchmarks.report import Figure, Result, Row, Section

DEMO = Path(__file__).parents[2] / "model_package" / "demo" / "weights"
ANCESTOR_STEPS = 50  # diffusers' default, in 32 bits, as the recipe leaves both
PROMPT = "a red apple"
PLAIN, ANCESTOR = "plain diffusers", "the ancestor's way"
VARIANTS: dict[str, dict[str, str]] = {
    ANCESTOR: {},
    PLAIN: {},
    "Easel": {"EASEL_COMPILE": "off"},
    "Easel, channels last": {"EASEL_COMPILE": "off", "EASEL_CHANNELS_LAST": "on"},
    "Easel, guidance for 40 % of the steps": {"EASEL_GUIDANCE_CUTOFF": "0.4"},
    "Easel, DPM++ 2M Karras": {"EASEL_SAMPLER": "dpm++-2m-karras"},
    "Easel, compiled regionally": {"EASEL_COMPILE": "regional"},
    "Easel, compiled fully": {"EASEL_COMPILE": "full"},
    "Easel, CUDA graphs": {"EASEL_COMPILE": "full", "EASEL_CUDA_GRAPHS": "on"},
}
_ONLY_CUDA = {"Easel, CUDA graphs"}
_BATCH = 4


@dataclass
class Found:
    """One variant of one model, and plain diffusers in turns with it; seconds, but for the rest."""

    seconds: Samples
    plain: Samples | None
    first: float
    per_step: float
    pixels: Any
    gibibytes: float | None
    report: dict[str, str] = field(default_factory=dict)


def demo() -> Kind:
    """Return the bundled model as it is asked for."""
    return Kind(list, steps=20, guidance_scale=3.0, side=128)


def build(name: str, dtype: torch.dtype, device: torch.device) -> list[Any]:
    """Return a model's pipelines, fresh."""
    if name != "demo":
        return make(KINDS[name], dtype, device)
    pipeline = load_pipeline(DEMO, dtype=dtype, device=device, allow_pickle=False)
    return [pipeline]


class Plainly:
    """Pipelines called as diffusers' documentation calls them; the picture is saved by Pillow."""

    def __init__(self, pipelines: Sequence[Any], kind: Kind) -> None:
        self.report: dict[str, str] = {}
        self._pipelines = pipelines
        self._kind = kind

    def paint(self, steps: int, count: int = 1) -> bytes:
        generators = [torch.Generator("cpu").manual_seed(7) for _ in range(count)]
        shared = {"num_inference_steps": steps, "guidance_scale": self._kind.guidance_scale}
        shared |= {"prompt": PROMPT, "generator": generators, "num_images_per_prompt": count}
        size = {"width": self._kind.side, "height": self._kind.side}
        base, *refiners = self._pipelines
        with without_warnings():
            if not refiners or steps < 5:
                images = base(**shared, **size).images
            else:
                early = {"output_type": "latent", "denoising_end": 0.8}
                latents = base(**shared, **size, **early).images
                late = {"image": latents, "denoising_start": 0.8}
                images = refiners[0](**shared, **late).images
        file = BytesIO()
        for image in images:
            image.save(file, "PNG")
        return file.getvalue()


class Easel:
    """The painter, as the endpoint has it."""

    def __init__(self, pipelines: Sequence[Any], kind: Kind, environ: dict[str, str]) -> None:
        base, *refiners = pipelines
        easel_vae.prepare(base, device=base.device, tiling=False)
        speed = Speed(pipelines, SpeedSettings.from_environ(environ), Compiler(pipelines))
        sizes = Defaults(
            steps=kind.steps, guidance_scale=kind.guidance_scale, width=kind.side, height=kind.side
        )
        refiner = refiners[0] if refiners else None
        self._painter = Painter(base, sizes, refiner=refiner, speed=speed, metadata=False)
        self._painter.warm_up()
        self.report = speed.report

    def paint(self, steps: int) -> bytes:
        wish = GenerationRequest(prompt=PROMPT, seed=7, steps=steps)
        return encode_file(self._painter.paint(wish))


def build_way(name: str, kind: Kind, variant: str) -> Any:
    """Return one variant of a model, loaded anew."""
    device = easel_precision.choose_device()
    half = device.type == "cuda" and variant != ANCESTOR
    pipelines = build(name, torch.float16 if half else torch.float32, device)
    environ = VARIANTS[variant]
    return Easel(pipelines, kind, environ) if environ else Plainly(pipelines, kind)


class Reference:
    """Plain diffusers with the same model, loaded when it is first asked for."""

    def __init__(self, name: str, kind: Kind) -> None:
        self._name = name
        self._kind = kind

    @cached_property
    def way(self) -> Any:
        return build_way(self._name, self._kind, PLAIN)

    @cached_property
    def pixels(self) -> Any:
        return _pixels(self.way.paint(self._kind.steps))


def _pixels(file: bytes) -> Any:
    with Image.open(BytesIO(file)) as image:
        return np.asarray(image)


def measure(name: str, kind: Kind, variant: str, plain: Reference | None, rounds: int) -> Found:
    """Build one variant and time it: the first picture with all that comes before, then others.

    In each round `plain`, if it is given, takes its turn: a busy moment meets both.
    """
    cuda = torch.cuda.is_available()
    steps = ANCESTOR_STEPS if variant == ANCESTOR else kind.steps
    if plain is not None:
        plain.way.paint(kind.steps)  # before it is timed, and before memory is counted
    held = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    started = _clock()
    way = build_way(name, kind, variant)
    file = way.paint(steps)
    first = _clock() - started
    peak = (torch.cuda.max_memory_allocated() - held) / 2**30 if cuda else None
    turns = {variant: lambda: _timed(way, steps)}
    if plain is not None:
        turns[PLAIN] = lambda: _timed(plain.way, kind.steps)
    seconds = in_turns(turns, rounds)
    half = statistics.median(_timed(way, max(steps // 2, 1)) for _ in range(max(rounds // 2, 1)))
    per_step = (seconds[variant].median - half) / max(steps - steps // 2, 1)
    beside = None if plain is None else seconds[PLAIN]
    return Found(seconds[variant], beside, first, per_step, _pixels(file), peak, way.report)


def batch(name: str, kind: Kind, rounds: int) -> float:
    """Return plain diffusers' pictures per second in batches."""
    device = easel_precision.choose_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    way = Plainly(build(name, dtype, device), kind)
    way.paint(kind.steps, _BATCH)
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        way.paint(kind.steps, _BATCH)
        seconds.append(time.perf_counter() - started)
    return _BATCH / statistics.median(seconds)


def _clock() -> float:
    """Return seconds: of CPU time where no GPU does the work, since others share the CPU."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def _timed(way: Any, steps: int) -> float:
    started = _clock()
    way.paint(steps)  # ends with a file, so the GPU has ended, too
    return _clock() - started


def psnr(ours: Any, theirs: Any) -> float:
    """Return how close two pictures are, in decibels; infinite for equal ones."""
    error = float(((ours.astype(float) - theirs) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def rows_of(name: str, variants: Sequence[str], rounds: int, until: float) -> list[Row]:
    """Measure a model's variants; each is built anew, and takes turns with plain diffusers."""
    kind = demo() if name == "demo" else KINDS[name]
    plain = Reference(name, kind)
    rows = []
    for variant in variants:
        what = f"{name}, {variant}"
        if variant == ANCESTOR and name not in {"sd", "demo"}:
            continue
        if variant in _ONLY_CUDA and not torch.cuda.is_available():
            rows.append(Row(what, "s", None, note="needs a GPU"))
            continue
        if time.monotonic() > until:
            rows.append(Row(what, "s", None, note="no time was left"))
            continue
        print(what, file=sys.stderr, flush=True)
        try:
            with redirect_stdout(StringIO()):  # the painter's log
                found = measure(name, kind, variant, None if variant == PLAIN else plain, rounds)
                rows.append(_row(what, found, plain))
        except Exception as error:  # noqa: BLE001 - one variant less, such as for want of memory
            note = f"failed: {type(error).__name__}: {str(error)[:200]}"
            rows.append(Row(what, "s", None, note=note))
        gc.collect()
        torch.cuda.empty_cache()
    return rows


def _row(what: str, found: Found, plain: Reference) -> Row:
    notes = [f"first picture {found.first:.1f} s", f"{found.per_step * 1_000:.1f} ms per step"]
    if found.gibibytes is not None:
        notes.append(f"peak {found.gibibytes:.1f} GiB")
    if found.plain is not None:
        closeness = psnr(found.pixels, plain.pixels)
        notes.append("equal pixels" if math.isinf(closeness) else f"{closeness:.0f} dB")
    notes += [f"{name} {told}" for name, told in found.report.items() if told.startswith("off: ")]
    row = Row(what, "s", Figure.of(found.seconds), note="; ".join(notes))
    if found.plain is None:
        return row
    return replace(row, baseline=PLAIN, baseline_value=Figure.of(found.plain))


TEXT = """
From a request to a PNG file, one picture at a time; prompts are known from the second picture on.
"First picture" is what loading, warming up, compiling and the first picture take together. Each
variant takes turns with plain diffusers. Without a GPU the time is the process's own CPU time, on
one thread. All weights are random but the demo model's: how close its pictures are to plain
diffusers' is the figure to read.
`python -m tests.benchmarks.gpu` measures all of it on a machine with a GPU.
"""


def measure_all(
    models: Sequence[str], variants: Sequence[str], rounds: int, minutes: float
) -> Section:
    """Measure models, and say of those that need a GPU that they were not, where there is none."""
    until = time.monotonic() + minutes * 60
    cuda = torch.cuda.is_available()
    rows: list[Row] = []
    for name in models:
        if name != "demo" and not cuda:
            rows.append(Row(f"{name}, Easel", "s", None, PLAIN, note="needs a GPU"))
            continue
        rows += rows_of(name, variants, rounds, until)
        if cuda and time.monotonic() < until:
            kind = demo() if name == "demo" else KINDS[name]
            rate = Figure(batch(name, kind, max(rounds // 2, 1)))
            rows.append(Row(f"{name}, batches of {_BATCH}, {PLAIN}", "pictures/s", rate))
    packages = ("torch", "diffusers", "transformers")
    hardware = torch.cuda.get_device_name() if cuda else ""
    return Section("The model", TEXT, tuple(rows), packages=packages, hardware=hardware)


def section(quick: bool = False) -> Section:
    """Measure the demo model, and the large ones where there is a GPU."""
    torch.set_num_threads(1)
    # Compiling all of it takes a CPU many minutes, and a GPU is what it is for.
    slow = set() if torch.cuda.is_available() else {"Easel, compiled fully"}
    variants = [PLAIN, "Easel"] if quick else [each for each in VARIANTS if each not in slow]
    return measure_all(["demo", *KINDS], variants, 2 if quick else 5, 1 if quick else 9)


def main() -> None:
    """Read the command line, measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description="Measure the model's speed.")
    parser.add_argument("--models", default=",".join(KINDS), help="beside these: demo")
    parser.add_argument("--variants", help=f"separated by /: {' / '.join(VARIANTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    variants = asked.variants.split("/") if asked.variants else list(VARIANTS)
    strange = ({*variants} - {*VARIANTS}) | ({*asked.models.split(",")} - {"demo", *KINDS})
    if strange:
        parser.error(f"there is no {', '.join(sorted(strange))}")
    load, models = busy(), asked.models.split(",")
    found = measure_all(models, variants, max(asked.rounds, 2), asked.minutes)
    result = Result.of(found, load)
    print(result.markdown())
    if asked.out:
        result.save(asked.out)


if __name__ == "__main__":
    main()
