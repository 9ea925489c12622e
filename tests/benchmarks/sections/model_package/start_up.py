"""From the start of a process to its first image, step by step, against plain diffusers.

    python -m tests.benchmarks.sections.model_package.start_up [--rounds 5] [--width 64]

Each variant runs in its own process, in turns. Before each run, the weights are dropped from the
page cache, as on a new instance. The model is SDXL's UNet, narrowed as in `narrow_sdxl.py`, with
tiny text encoders and VAE. The serving code has no bytecode, as in a new container, and is compiled
at every start. Plain diffusers is `from_pretrained` and an image as a PNG file, in 32 bits as well;
Easel is `inference.py` as the serving toolkit uses it: import, `model_fn`, which warms up, and the
image's bytes. A second image shows the cost of first use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory

from tests.benchmarks.lib import against
from tests.benchmarks.lib.measuring import milliseconds, table
from tests.benchmarks.lib.model_package.narrow_sdxl import make_model
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, figure_of, print_section

CODE = Path(__file__).parents[4] / "model_package" / "code"
REQUEST = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}
PARTS = ("import", "load", "first image", "second image")
PLAIN, EASEL = "plain diffusers", "Easel"
PACKAGES = ("torch", "diffusers", "transformers")
_CHUNK = 8 * 2**20

_CLOCK = """
import json, re, resource, sys, time
began = time.perf_counter()
marks, steps = [], {}
def mark():
    marks.append(time.perf_counter() - began)
"""
_PLAIN = """
import io, torch
from diffusers import StableDiffusionXLPipeline
mark()
pipeline = StableDiffusionXLPipeline.from_pretrained(sys.argv[1], dtype=torch.float32)
pipeline.set_progress_bar_config(disable=True)
mark()
for _ in range(2):
    noise = torch.Generator().manual_seed(7)
    image = pipeline("a cat", num_inference_steps=2, width=64, height=64, generator=noise)
    image.images[0].save(io.BytesIO(), "PNG")
    mark()
"""
_EASEL = """
import contextlib, io
import inference
mark()
with contextlib.redirect_stdout(io.StringIO()) as log:
    model = inference.model_fn(sys.argv[1])
    mark()
    steps = json.loads(log.getvalue().splitlines()[-1]).get("steps", {})
    for _ in range(2):
        request = inference.input_fn(sys.argv[2], "application/json")
        file = inference.output_fn(inference.predict_fn(request, model), "image/png")
        assert isinstance(file, bytes), file
        mark()
"""
_REPORT = """
used = resource.getrusage(resource.RUSAGE_SELF)
report = {"marks": marks, "steps": steps, "computed": used.ru_utime + used.ru_stime}
with open("/proc/self/status") as status:  # getrusage's peak includes the parent's
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])
print(json.dumps({**report, "peak": peak / 1024}))
"""


@dataclass(frozen=True)
class Start:
    """One process's start.

    Attributes:
        parts: seconds of each of PARTS.
        steps: seconds by step, from Easel's log.
        computed: seconds of processor time to the second image.
        peak: peak memory in MiB, mapped weights included.
    """

    parts: tuple[float, ...]
    steps: dict[str, float]
    computed: float
    peak: float

    @property
    def total(self) -> float:
        """The seconds to the first image."""
        return sum(self.parts[:-1])


def drop(folder: Path) -> None:
    """Drop a folder's files from the page cache.

    They are read first, so that each variant starts with memory in the same state.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as opened:
                while opened.read(_CHUNK):
                    pass
                os.fdatasync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(script: str, base: Path, environ: dict[str, str]) -> Start:
    """Start a process that generates two images, with the weights only on disk."""
    drop(base)
    command = [sys.executable, "-W", "ignore", "-c", _CLOCK + script + _REPORT]
    done = subprocess.run(
        [*command, str(base / "model"), json.dumps(REQUEST)],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(base), **environ},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    report = json.loads(done.stdout.splitlines()[-1])
    marks = report["marks"]
    parts = tuple(mark - before for mark, before in zip(marks, [0.0, *marks], strict=False))
    return Start(parts, report["steps"], report["computed"], report["peak"])


def measure(width: int, rounds: int) -> Section:
    """Measure Easel against plain diffusers."""
    with TemporaryDirectory() as folder:
        source = copytree(CODE, Path(folder, "code"), ignore=ignore_patterns("__pycache__"))
        variants = {
            PLAIN: (_PLAIN, {}),
            "Easel, weights not read ahead": (_EASEL, {"EASEL_READ_AHEAD": "off"}),
            EASEL: (_EASEL, {}),
        }
        from_source = {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
        starts_by_variant, size = _in_turns(variants, width, rounds, from_source)
    text = (
        f"From the start of a process to the first image's bytes, with {size:,.0f} MB of weights"
        " that are not in the page cache, on one thread. Easel's loading includes a warm-up"
        " image, and compiling the serving code, as in a new container, which gets its source"
        " alone. Peak memory includes the mapped weights, which the operating system can reclaim."
    )
    return Section(
        "The model's start",
        text,
        tuple(_rows(starts_by_variant)),
        _details(starts_by_variant),
        PACKAGES,
    )


def compare(other: Path, quick: bool = False) -> Section:
    """Measure this model package's start against another checkout's."""
    variants = {
        against.THIS: (_EASEL, {}),
        against.OTHER: (_EASEL, {"PYTHONPATH": str(other / "model_package" / "code")}),
    }
    width, rounds = (32, 2) if quick else (64, 7)
    starts_by_variant, _ = _in_turns(variants, width, rounds, {"PYTHONPATH": str(CODE)})
    rows = [
        against.row(
            what,
            unit,
            {
                name: figure_of([getattr(each, part) for each in starts_by_variant[name]])
                for name in variants
            },
        )
        for what, unit, part in (
            ("start to the first image", "s", "total"),
            ("processor time, with a second image", "s", "computed"),
            ("peak memory", "MiB", "peak"),
        )
    ]
    return against.section("The model's start", rows, _parts(starts_by_variant), PACKAGES)


def _in_turns(
    variants: dict[str, tuple[str, dict[str, str]]],
    width: int,
    rounds: int,
    common: dict[str, str],
) -> tuple[dict[str, list[Start]], float]:
    """Run all variants in turns with one model; return their starts and the model's megabytes."""
    environ = {
        **common,
        "EASEL_DTYPE": "fp32",
        "EASEL_DEFAULTS": json.dumps({"steps": 2}),
        # With several threads, other load on the machine would affect the result.
        "OMP_NUM_THREADS": "1",
    }
    starts_by_variant: dict[str, list[Start]] = {name: [] for name in variants}
    with TemporaryDirectory() as folder:
        base = Path(folder)
        make_model(base / "model", width)
        size = sum(path.stat().st_size for path in base.rglob("*.safetensors")) / 1e6
        for _ in range(rounds):
            for name, (script, more) in variants.items():
                starts_by_variant[name].append(run(script, base, {**environ, **more}))
    return starts_by_variant, size


def _rows(starts_by_variant: dict[str, list[Start]]) -> list[Row]:
    plain, easel = starts_by_variant[PLAIN], starts_by_variant[EASEL]
    rows = [
        Row(
            name,
            "s",
            figure_of([each.total for each in starts]),
            PLAIN,
            figure_of([p.total for p in plain]),
        )
        for name, starts in starts_by_variant.items()
        if name not in (PLAIN, EASEL)
    ]
    for what, unit, aim, ours, theirs in (
        (EASEL, "s", Aim("ratio", at_most=1.0), *_both("total", easel, plain)),
        ("processor time, with a second image", "s", None, *_both("computed", easel, plain)),
        ("peak memory", "MiB", None, *_both("peak", easel, plain)),
    ):
        rows.append(Row(what, unit, ours, PLAIN, theirs, aim))
    what, whole = "compiling the serving code, processor time", _both("computed", easel)[0]
    rows.append(Row(what, "s", _compiling(len(easel)), "all of Easel's", whole))
    return rows


def _compiling(rounds: int) -> Figure:
    """Measure what a start without bytecode adds: too little to see in the time of all of it."""
    texts = [path.read_text("utf-8") for path in CODE.rglob("*.py")]

    def compile_all() -> None:
        for text in texts:
            compile(text, "module", "exec")

    return figure_of([milliseconds(compile_all, time.process_time) / 1_000 for _ in range(rounds)])


def _both(what: str, *each: list[Start]) -> list[Figure]:
    return [figure_of([getattr(start, what) for start in starts]) for starts in each]


def _parts(starts_by_variant: dict[str, list[Start]]) -> str:
    parts = [
        [name, *(f"{figure_of([s.parts[place] for s in starts]).median:.2f}" for place in range(4))]
        for name, starts in starts_by_variant.items()
    ]
    return table(["seconds, median", *PARTS], parts)


def _details(starts_by_variant: dict[str, list[Start]]) -> str:
    easel = starts_by_variant[EASEL]
    steps = [
        [f"`{step}`", f"{figure_of([start.steps[step] for start in easel]).median:.2f}"]
        for step in easel[0].steps
    ]
    heading = "The steps of Easel's start, from `model_loaded` in its log:"
    return "\n\n".join(
        [_parts(starts_by_variant), heading, table(["step", "seconds, median"], steps)]
    )


def section(quick: bool = False) -> Section:
    """Measure with a model of about 400 MB, or with a tiny one if `quick`."""
    return measure(width=32 if quick else 64, rounds=2 if quick else 7)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the model's start.")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    parser.add_argument("--width", type=int, default=64, help="channels of the UNet's first block")
    options = parser.parse_args()
    print_section(lambda: measure(options.width, max(options.rounds, 2)))


if __name__ == "__main__":
    main()
