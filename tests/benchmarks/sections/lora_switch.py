"""What it takes to change adapters, against loading the model anew; and what our prompts cost.

    python -m tests.benchmarks.sections.lora_switch [--rounds 7] [--width 320] [--rank 16]

The model is SDXL's UNet with random weights, `width` channels wide in its first block (320 is the
real one: 2.4 billion weights; the default is a quarter of that), with tiny text encoders and VAE.
The adapter changes every attention layer of the UNet. Both ways end with the same weights in place:
one merges the adapter into the loaded model, the other reads the model from disk, which is in the
page cache after the first round, and then merges. diffusers' own way, through peft, only sets the
adapter beside the weights. `--model FOLDER` measures a model of yours instead.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[3] / "model_package" / "code"))
from easel.loading.dtype import choose_device, choose_dtype
from easel.loading.pipeline import load_pipeline
from easel.lora.adapters import Loras
from easel.prompts.embeddings import PromptEncoder
from easel.startup.quiet import without_warnings
from model_package.stand_in import make_stand_in
from tests.benchmarks.lib.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.lib.narrow_sdxl import make_model
from tests.benchmarks.lib.report import Figure, Row, Section, run_alone
from tests.model_package.doubles.lora_files import random_layers, write_kohya

LORA = "style:0.8"
TEXT = """\
A LoRA adapter is put on and taken off in the loaded model, against loading the model from the page
cache and merging the adapter into it; and diffusers' own way, which sets it beside the weights with
peft. The model is SDXL's UNet with random weights, half as wide as the real one. Below that:
encoding prompt and negative prompt with SDXL's two encoders, tiny ones, so that Python's share
shows.
"""


ANEW, PEFT = "load the model anew, then merge", "diffusers and peft: load, set, unload"


class Knobs(NamedTuple):
    """What the command line sets."""

    rounds: int = 7
    width: int = 160
    rank: int = 16
    model: Path | None = None


PROMPTS = {
    "plain": "a photo of an astronaut riding a horse on mars",
    "weighted": "a (photo:1.2) of an [astronaut] riding a (horse)1.3 on mars++",
    "long": "a photo of an astronaut riding a horse on mars, " * 10,
}


def load(folder: Path) -> Any:
    """Return the pipeline as the endpoint loads it."""
    device = choose_device()
    dtype = choose_dtype("auto", device)
    return load_pipeline(folder, dtype=dtype, device=device, allow_pickle=False)


def wear(loras: Loras, lora: str) -> None:
    """Put adapters on, or others off, and wait until that is done."""
    with loras.applied(lora):
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def put_on_peft(pipeline: Any, path: Path) -> None:
    """Load the adapter in diffusers' own way, beside the weights, and remove it again."""
    with without_warnings():
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name="style")
        pipeline.set_adapters(["style"], [0.8])
        pipeline.unload_lora_weights()


def measure_switching(folder: Path, rank: int, rounds: int) -> tuple[str, list[Row]]:
    """Return what was changed, and a row for each way to change adapters."""
    pipeline = load(folder)
    path = folder / "style.safetensors"
    write_kohya(path, random_layers(pipeline, rank=rank, parts=("unet",), size=0.01))
    loras = Loras([("style", path)], [pipeline])
    wear(loras, LORA)  # the first time copies the originals away
    peft = load(folder)

    def reload() -> None:
        wear(Loras([("style", path)], [load(folder)]), LORA)

    def switch() -> float:
        wear(loras, "")
        return milliseconds(lambda: wear(loras, LORA))

    def take_off() -> float:
        wear(loras, LORA)
        return milliseconds(lambda: wear(loras, ""))

    results = in_turns(
        {
            ANEW: lambda: milliseconds(reload),
            PEFT: lambda: milliseconds(partial(put_on_peft, peft, path)),
            "put on": switch,
            "take off": take_off,
        },
        rounds,
    )
    pairs = (("put on", ANEW), ("put on", PEFT), ("take off", ANEW))
    rows = [_row(way, results[way], name, results[name]) for way, name in pairs]
    weights = sum(each.numel() for each in pipeline.unet.parameters())
    return f"UNet of {weights / 1e6:,.0f} million weights, {pipeline.dtype}, rank {rank}.", rows


def _row(what: str, samples: Samples, name: str, baseline: Samples) -> Row:
    return Row(what, "ms", Figure.of(samples), name, Figure.of(baseline))


def measure_prompts(folder: Path, rounds: int) -> list[Row]:
    """Return what encoding takes, against diffusers' own; none of it from memory."""
    pipeline = load(folder)

    def theirs(prompt: str) -> None:
        with torch.no_grad(), without_warnings():
            pipeline.encode_prompt(prompt, negative_prompt="grass")

    def ours(prompt: str) -> None:
        PromptEncoder.of(pipeline).embed(prompt, "grass", guided=True, state="")  # type: ignore[union-attr]

    kept: Any = PromptEncoder.of(pipeline)
    variants = {"diffusers, plain": partial(theirs, PROMPTS["plain"])}
    variants |= {name: partial(ours, prompt) for name, prompt in PROMPTS.items()}
    variants["asked again"] = lambda: kept.embed(PROMPTS["plain"], "grass", guided=True, state="")
    for action in variants.values():
        action()
    results = in_turns(
        {name: partial(milliseconds, action) for name, action in variants.items()}, rounds * 10
    )
    theirs_plain = results.pop("diffusers, plain")
    return [
        _row(f"prompts, {what}", samples, "diffusers, plain", theirs_plain)
        for what, samples in results.items()
    ]


def section(quick: bool = False, knobs: Knobs | None = None) -> Section:
    """Measure all of it."""
    knobs = knobs or (Knobs(2, 64, 4) if quick else Knobs())
    with TemporaryDirectory() as folder:
        model = knobs.model or make_model(Path(folder), knobs.width)
        what, rows = measure_switching(model, knobs.rank, max(knobs.rounds, 2))
        tiny = make_stand_in(Path(folder) / "tiny", kind="sdxl")
        rows += measure_prompts(tiny, max(knobs.rounds, 2))
    packages = ("torch", "diffusers", "peft")
    return Section("Changing adapters, and prompts", f"{TEXT}\n{what}", tuple(rows), "", packages)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure changing adapters, and prompts.")
    parser.add_argument("--rounds", type=int, default=7, help="at least 2")
    parser.add_argument("--width", type=int, default=160, help="channels of the first block")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--model", type=Path, help="a folder of yours")
    knobs = Knobs(**vars(parser.parse_args()))
    run_alone(lambda: section(knobs=knobs))


if __name__ == "__main__":
    main()
