"""From the start of a process to its first picture, step by step, beside plain diffusers.

    python -m tests.benchmarks.sections.start_up [--rounds 5] [--width 64]

Each way runs in a process of its own, in turns. Before each, the weights are dropped from the page
cache, as on an instance that was just started. The model is SDXL's UNet, narrowed as in
`lora_switch.py`, with tiny text encoders and VAE. Plain diffusers is `from_pretrained` and a
picture as a PNG file, in the same 32 bits; Easel is `inference.py` as the serving toolkit uses it:
import, `model_fn`, which warms up, and the picture's bytes. A second picture follows, which tells
what is left to do at first use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.lib import against
from tests.benchmarks.lib.measuring import Samples, table
from tests.benchmarks.lib.narrow_sdxl import make_model
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, run_alone

CODE = Path(__file__).parents[3] / "model_package" / "code"
WISH = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}
PARTS = ("import", "load", "first picture", "second picture")
PLAIN = "plain diffusers"
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
    picture = pipeline("a cat", num_inference_steps=2, width=64, height=64, generator=noise)
    picture.images[0].save(io.BytesIO(), "PNG")
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
        wish = inference.input_fn(sys.argv[2], "application/json")
        file = inference.output_fn(inference.predict_fn(wish, model), "image/png")
        assert isinstance(file, bytes), file
        mark()
"""
_TELL = """
used = resource.getrusage(resource.RUSAGE_SELF)
told = {"marks": marks, "steps": steps, "computed": used.ru_utime + used.ru_stime}
with open("/proc/self/status") as status:  # what getrusage says was inherited from the parent
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])
print(json.dumps({**told, "peak": peak / 1024}))
"""


@dataclass(frozen=True)
class Start:
    """One process's start.

    Attributes:
        parts: seconds of each of PARTS.
        steps: seconds by step, as Easel's own log has them.
        computed: seconds of processor time, from the first line to the second picture.
        peak: most memory that it held at once, in MiB, with the weights that it mapped.
    """

    parts: tuple[float, ...]
    steps: dict[str, float]
    computed: float
    peak: float

    @property
    def total(self) -> float:
        """The seconds to the first picture."""
        return sum(self.parts[:-1])


def drop(folder: Path) -> None:
    """Let the operating system forget what it read of a folder's files.

    They are read once more before, so that each way finds memory in the same state.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as opened:
                while opened.read(_CHUNK):
                    pass
                os.fdatasync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(script: str, base: Path, environ: dict[str, str]) -> Start:
    """Start a process that paints two pictures, with the weights on disk only."""
    drop(base)
    command = [sys.executable, "-W", "ignore", "-c", _CLOCK + script + _TELL]
    done = subprocess.run(
        [*command, str(base / "model"), json.dumps(WISH)],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(base), **environ},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    told = json.loads(done.stdout.splitlines()[-1])
    marks = told["marks"]
    parts = tuple(mark - before for mark, before in zip(marks, [0.0, *marks], strict=False))
    return Start(parts, told["steps"], told["computed"], told["peak"])


def measure(width: int, rounds: int) -> Section:
    """Measure Easel against plain diffusers."""
    ways = {
        PLAIN: (_PLAIN, {}),
        "Easel, weights not read ahead": (_EASEL, {"EASEL_READ_AHEAD": "off"}),
        "Easel": (_EASEL, {}),
    }
    found, size = _in_turns(ways, width, rounds)
    text = (
        f"From the start of a process to the first picture's bytes, with {size:,.0f} MB of weights"
        " that are not in the page cache, computing on one thread. Easel's loading includes a"
        " picture to warm up with. The peak of memory counts the mapped weights, which the"
        " operating system could take back."
    )
    return Section("The model's start", text, tuple(_rows(found)), _details(found), PACKAGES)


def compare(other: Path, quick: bool = False) -> Section:
    """Measure this model package's start against another checkout's."""
    ways = {
        against.THIS: (_EASEL, {}),
        against.OTHER: (_EASEL, {"PYTHONPATH": str(other / "model_package" / "code")}),
    }
    found, _ = _in_turns(ways, width=32 if quick else 64, rounds=2 if quick else 7)
    rows = [
        against.row(
            what, unit, {name: _of([getattr(each, part) for each in found[name]]) for name in ways}
        )
        for what, unit, part in (
            ("start to the first picture", "s", "total"),
            ("processor time, with a second picture", "s", "computed"),
            ("peak of memory", "MiB", "peak"),
        )
    ]
    return against.section("The model's start", rows, _parts(found), PACKAGES)


def _in_turns(
    ways: dict[str, tuple[str, dict[str, str]]], width: int, rounds: int
) -> tuple[dict[str, list[Start]], float]:
    """Run all ways in turns with one model; return their starts and its megabytes."""
    environ = {
        "PYTHONPATH": str(CODE),
        "EASEL_DTYPE": "fp32",
        "EASEL_DEFAULTS": json.dumps({"steps": 2}),
        # Threads that wait for one another would measure what else the machine does.
        "OMP_NUM_THREADS": "1",
    }
    found: dict[str, list[Start]] = {name: [] for name in ways}
    with TemporaryDirectory() as folder:
        base = Path(folder)
        make_model(base / "model", width)
        size = sum(path.stat().st_size for path in base.rglob("*.safetensors")) / 1e6
        for _ in range(rounds):
            for name, (script, more) in ways.items():
                found[name].append(run(script, base, {**environ, **more}))
    return found, size


def _rows(found: dict[str, list[Start]]) -> list[Row]:
    plain, easel = found[PLAIN], found["Easel"]
    rows = [
        Row(name, "s", _of([each.total for each in starts]), PLAIN, _of([p.total for p in plain]))
        for name, starts in found.items()
        if name not in (PLAIN, "Easel")
    ]
    for what, unit, aim, ours, theirs in (
        ("Easel", "s", Aim("ratio", at_most=1.0), *_both("total", easel, plain)),
        ("processor time, with a second picture", "s", None, *_both("computed", easel, plain)),
        ("peak of memory", "MiB", None, *_both("peak", easel, plain)),
    ):
        rows.append(Row(what, unit, ours, PLAIN, theirs, aim))
    return rows


def _both(what: str, *each: list[Start]) -> list[Figure]:
    return [_of([getattr(start, what) for start in starts]) for starts in each]


def _of(values: Sequence[float]) -> Figure:
    return Figure.of(Samples(tuple(values)))


def _parts(found: dict[str, list[Start]]) -> str:
    parts = [
        [name, *(f"{_of([s.parts[place] for s in starts]).median:.2f}" for place in range(4))]
        for name, starts in found.items()
    ]
    return table(["seconds, median", *PARTS], parts)


def _details(found: dict[str, list[Start]]) -> str:
    easel = found["Easel"]
    steps = [
        [f"`{step}`", f"{_of([start.steps[step] for start in easel]).median:.2f}"]
        for step in easel[0].steps
    ]
    told = "The steps of Easel, as its log's `model_loaded` tells them to the owner of an endpoint:"
    return "\n\n".join([_parts(found), told, table(["step", "seconds, median"], steps)])


def section(quick: bool = False) -> Section:
    """Measure with a model of some 400 MB; quickly with a tiny one."""
    return measure(width=32 if quick else 64, rounds=2 if quick else 7)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the model's start.")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    parser.add_argument("--width", type=int, default=64, help="channels of the UNet's first block")
    asked = parser.parse_args()
    run_alone(lambda: measure(asked.width, max(asked.rounds, 2)))


if __name__ == "__main__":
    main()
