"""Time to switch LoRA adapters, against loading the model again; and to encode prompts.

    python -m tests.benchmarks.sections.model_package.lora_switch [--width 320] [--rank 16]

The model is SDXL's UNet with random weights and `width` channels in its first block (320 is the
real one: 2.4 billion weights; the default has a quarter of them), with tiny text encoders and VAE.
The adapter changes every attention layer of the UNet. Both variants result in the same weights: one
merges the adapter into the loaded model, the other loads the model from the page cache and then
merges. diffusers with peft keeps the adapter separate from the weights. `--model FOLDER` measures
another model.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from easel.loading.dtype import choose_device, choose_dtype
from easel.loading.pipeline import load_pipeline
from easel.lora.adapters import Loras
from easel.prompts.embeddings import PromptEncoder
from easel.startup.quiet import without_warnings
from model_package.stand_in import make_stand_in
from tests.benchmarks.lib.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.lib.model_package.narrow_sdxl import make_model
from tests.benchmarks.lib.report import Figure, Row, Section, print_section
from tests.model_package.doubles.lora_files import random_layers, write_kohya

LORA = "style:0.8"
TEXT = """\
A LoRA adapter is applied to the loaded model and removed again, against loading the model from the
page cache and merging the adapter, and against diffusers with peft, which keeps the adapter
separate from the weights. The model is SDXL's UNet with random weights, half as wide as the real
one. The rows of prompts encode a prompt and a negative prompt with SDXL's two encoders, which are
tiny here so that Python's share is visible.
"""


RELOAD, PEFT = "load the model again, then merge", "diffusers and peft: load, set, unload"


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
    """Load the pipeline as the endpoint does."""
    device = choose_device()
    dtype = choose_dtype("auto", device)
    return load_pipeline(folder, dtype=dtype, device=device, allow_pickle=False)


def apply(loras: Loras, lora: str) -> None:
    """Apply adapters, or restore the weights for "", and wait until the GPU has finished."""
    with loras.applied(lora):
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def apply_with_peft(pipeline: Any, path: Path) -> None:
    """Load the adapter with diffusers and peft, and remove it again."""
    with without_warnings():
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name="style")
        pipeline.set_adapters(["style"], [0.8])
        pipeline.unload_lora_weights()


def measure_switching(folder: Path, rank: int, rounds: int) -> tuple[str, list[Row]]:
    """Return a description of the model, and a row for each comparison."""
    pipeline = load(folder)
    path = folder / "style.safetensors"
    write_kohya(path, random_layers(pipeline, rank=rank, parts=("unet",), size=0.01))
    loras = Loras([("style", path)], [pipeline])
    apply(loras, LORA)  # the first time also copies the original weights
    peft = load(folder)

    def reload() -> None:
        apply(Loras([("style", path)], [load(folder)]), LORA)

    def switch() -> float:
        apply(loras, "")
        return milliseconds(lambda: apply(loras, LORA))

    def remove() -> float:
        apply(loras, LORA)
        return milliseconds(lambda: apply(loras, ""))

    results = in_turns(
        {
            RELOAD: lambda: milliseconds(reload),
            PEFT: lambda: milliseconds(partial(apply_with_peft, peft, path)),
            "apply": switch,
            "remove": remove,
        },
        rounds,
    )
    pairs = (("apply", RELOAD), ("apply", PEFT), ("remove", RELOAD))
    rows = [_row(what, results[what], name, results[name]) for what, name in pairs]
    weights = sum(each.numel() for each in pipeline.unet.parameters())
    return f"UNet of {weights / 1e6:,.0f} million weights, {pipeline.dtype}, rank {rank}.", rows


def _row(what: str, samples: Samples, name: str, baseline: Samples) -> Row:
    return Row(what, "ms", Figure.of(samples), name, Figure.of(baseline))


def measure_prompts(folder: Path, rounds: int) -> list[Row]:
    """Return rows for encoding prompts, against diffusers; only the last one uses the cache."""
    pipeline = load(folder)

    def theirs(prompt: str) -> None:
        with torch.no_grad(), without_warnings():
            pipeline.encode_prompt(prompt, negative_prompt="grass")

    def ours(prompt: str) -> None:
        PromptEncoder.of(pipeline).embed(prompt, "grass", guided=True, state="")  # type: ignore[union-attr]

    cached: Any = PromptEncoder.of(pipeline)
    variants = {"diffusers, plain": partial(theirs, PROMPTS["plain"])}
    variants |= {name: partial(ours, prompt) for name, prompt in PROMPTS.items()}
    variants["cached"] = lambda: cached.embed(PROMPTS["plain"], "grass", guided=True, state="")
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
    return Section("Switching adapters, and prompts", f"{TEXT}\n{what}", tuple(rows), "", packages)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure switching adapters, and prompts.")
    parser.add_argument("--rounds", type=int, default=7, help="at least 2")
    parser.add_argument("--width", type=int, default=160, help="channels of the first block")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--model", type=Path, help="the folder of another model")
    knobs = Knobs(**vars(parser.parse_args()))
    print_section(lambda: section(knobs=knobs))


if __name__ == "__main__":
    main()
