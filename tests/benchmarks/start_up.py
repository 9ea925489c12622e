"""From the start of a process to its first picture, step by step, beside plain diffusers.

    python -m tests.benchmarks.start_up [--rounds 5] [--width 64]

Each way runs in a process of its own, in turns. Before each, the weights are dropped from the page
cache, as on an instance that was just started. The model is SDXL's UNet, narrowed as in
`lora_switch.py`, with tiny text encoders and VAE. Plain diffusers is `from_pretrained` and one
picture; Easel is `inference.py` as the serving toolkit uses it: import, `model_fn`, which warms up,
and one picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.lora_switch import make_model
from tests.benchmarks.measuring import Samples, table
from tests.benchmarks.report import Figure, Row, Section, run_alone

CODE = Path(__file__).parents[2] / "model_package" / "code"
WISH = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}
STEPS = ("import", "load", "first picture")

_CLOCK = """
import json, sys, time
began = time.perf_counter()
marks = []
def mark():
    marks.append(time.perf_counter() - began)
"""
_PLAIN = """
import torch
from diffusers import StableDiffusionXLPipeline
mark()
pipeline = StableDiffusionXLPipeline.from_pretrained(sys.argv[1], dtype=torch.float32)
pipeline.set_progress_bar_config(disable=True)
mark()
pipeline("a cat", num_inference_steps=2, width=64, height=64).images[0].save("/dev/null", "PNG")
mark()
"""
_EASEL = """
import contextlib, io
import inference
mark()
with contextlib.redirect_stdout(io.StringIO()):
    model = inference.model_fn(sys.argv[1])
    mark()
    wish = inference.input_fn(sys.argv[2], "application/json")
    file = inference.output_fn(inference.predict_fn(wish, model), "image/png")
assert isinstance(file, bytes), file
mark()
"""
_TELL = "print(json.dumps(marks))"


def drop(folder: Path) -> None:
    """Let the operating system forget what it read of a folder's files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as opened:
                os.fdatasync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(script: str, base: Path, environ: dict[str, str]) -> list[float]:
    """Return the seconds that each step took in a process of its own."""
    drop(base)
    command = [sys.executable, "-W", "ignore", "-c", _CLOCK + script + _TELL]
    done = subprocess.run(
        [*command, str(base / "model"), json.dumps(WISH)],
        env={**os.environ, "PYTHONPATH": str(CODE), "SAGEMAKER_BASE_DIR": str(base), **environ},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    marks = json.loads(done.stdout.splitlines()[-1])
    return [mark - before for mark, before in zip(marks, [0.0, *marks], strict=False)]


def measure(width: int, rounds: int) -> Section:
    """Run all ways in turns."""
    ways = {
        "plain diffusers": (_PLAIN, {}),
        "Easel, weights not read ahead": (_EASEL, {"EASEL_READ_AHEAD": "off"}),
        "Easel": (_EASEL, {}),
    }
    environ = {"EASEL_DTYPE": "fp32", "EASEL_DEFAULTS": json.dumps({"steps": 2})}
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    with TemporaryDirectory() as folder:
        base = Path(folder)
        make_model(base / "model", width)
        size = sum(path.stat().st_size for path in base.rglob("*.safetensors")) / 1e6
        for _ in range(rounds):
            for name, (script, more) in ways.items():
                found[name].append(run(script, base, {**environ, **more}))
    totals = {name: Figure.of(Samples(tuple(map(sum, each)))) for name, each in found.items()}
    plain = totals.pop("plain diffusers")
    rows = [Row(name, "s", each, "plain diffusers", plain) for name, each in totals.items()]
    parts = [
        [
            name,
            *(f"{Samples(tuple(each[place] for each in runs)).median:.2f}" for place in range(3)),
        ]
        for name, runs in found.items()
    ]
    text = (
        f"From the start of a process to the first picture's bytes, with {size:,.0f} MB of weights"
        " that are not in the page cache. Easel's loading includes a picture to warm up with."
    )
    details = table(["seconds, median", *STEPS], parts)
    packages = ("torch", "diffusers", "transformers")
    return Section("The model's start", text, tuple(rows), details, packages)


def section(quick: bool = False) -> Section:
    """Measure with a model of some 400 MB; quickly with a tiny one."""
    return measure(width=32 if quick else 64, rounds=2 if quick else 5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the model's start.")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    parser.add_argument("--width", type=int, default=64, help="channels of the UNet's first block")
    asked = parser.parse_args()
    run_alone(lambda: measure(asked.width, max(asked.rounds, 2)))


if __name__ == "__main__":
    main()
