"""Several requests at a time, in batches of denoising steps, against one after the other.

    python -m tests.benchmarks.sections.model_package.batching [--models demo,sdxl] [--rounds 5]

Models other than the bundled one have random weights and need a GPU.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO

import torch

from easel.batching.engine import Engine
from easel.batching.measure import Nobody, make_engine
from easel.generator import GeneratedImage, ImageGenerator
from easel.load import load_generator
from easel.loading.dtype import choose_device
from generation import GenerationRequest
from tests.benchmarks.lib.measuring import Samples, in_turns
from tests.benchmarks.lib.model_package.full_size import MODELS
from tests.benchmarks.lib.model_package.variants import DEMO, Easel, build, clock, dtype_on, psnr
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section

CLIENTS = (1, 2, 4, 8)
SERIAL = "one after the other"
# The number types of the bundled model; on a CPU with instructions for them, auto is 16 bits.
DEMOS = {"demo": "auto", "demo in 32 bits": "fp32"}
# For the demo model what its UNet gains on a CPU; the others as published for an L4 (SDXL-Turbo).
AIMS = {
    ("demo", 1): Aim("ratio", at_least=0.97),
    ("demo", 8): Aim("ratio", at_least=1.5),
    ("sd-turbo", 1): Aim("ratio", at_least=0.97),
    ("sd-turbo", 8): Aim("ratio", at_least=4),
}
PROMPTS = ("a cat", "a dog", "a red apple", "a car", "a house", "a tree", "a fish", "a blue bird")
TEXT = """
Images per second of `easel/batching/`, which generates several requests together, one denoising
step at a time, against the same requests one after the other (`generate`, as the serving toolkit
does), measured in turns. Each client requests its next image as soon as it has one; all have the
model's default size, steps and guidance scale. "Size" is the largest size of batches that the model
chose for itself while it warmed up. The demo model uses 16 bits on a CPU that computes with them.
Without a GPU, time is the process's CPU time on one thread.
All weights are random except the demo model's. Images in a batch depend on its size by rounding;
"against one alone" compares an image in a batch with that of `generate`.
"""


def load(name: str) -> ImageGenerator:
    """Load a model as the endpoint does."""
    if name in DEMOS:
        return load_generator(DEMO, {"EASEL_DTYPE": DEMOS[name]})
    device = choose_device()
    pipelines = build(name, dtype_on(device), device)
    return Easel(pipelines, MODELS[name], {"EASEL_COMPILE": "off"}).generator


def requests(count: int) -> list[GenerationRequest]:
    """Return different requests of a model's default size and steps."""
    return [
        GenerationRequest(prompt=PROMPTS[seed % len(PROMPTS)], seed=seed) for seed in range(count)
    ]


def serial_rate(generator: ImageGenerator, count: int) -> float:
    """Return the images per second of one request after the other."""
    began = clock()
    for request in requests(count):
        generator.generate(request)
    return count / (clock() - began)


def rate(engine: Engine, clients: int, count: int) -> float:
    """Return the images per second of clients that each wait for one image at a time."""
    began = clock()
    paint(engine, clients, requests(count))
    return count / (clock() - began)


def paint(
    engine: Engine, clients: int, wanted: Sequence[GenerationRequest]
) -> list[GeneratedImage]:
    """Return the images in the order in which they were finished."""
    waiting, images = list(wanted), []
    for request in waiting[:clients]:
        engine.add(request, Nobody())
    del waiting[:clients]
    while engine.busy:
        for _, image in engine.step():
            if not isinstance(image, GeneratedImage):
                raise image
            images.append(image)
            if waiting:
                engine.add(waiting.pop(0), Nobody())
    return images


def rows_of(name: str, rounds: int) -> Iterator[Row]:
    """Measure one model."""
    with redirect_stdout(StringIO()):  # the model's log
        generator = load(name)
        began = clock()
        engine = make_engine(generator)
        measuring = clock() - began
        serial_rate(generator, 2)
        paint(engine, max(CLIENTS), requests(max(CLIENTS)))
    yield Row(f"{name}, size of batches", "", Figure(engine.capacity))
    yield Row(f"{name}, time to choose it", "s", Figure(measuring), note="once, at the start")
    for clients in CLIENTS:
        count = 2 * max(clients, 2)
        turns: Mapping[str, Callable[[], float]] = {
            "": lambda clients=clients, count=count: rate(engine, clients, count),
            SERIAL: lambda count=count: serial_rate(generator, count),
        }
        with redirect_stdout(StringIO()):
            rates = in_turns(turns, rounds)
        yield _row(name, clients, rates)
    yield _difference(name, generator, engine)


def _row(name: str, clients: int, rates: Mapping[str, Samples]) -> Row:
    return Row(
        f"{name}, {clients} client{'s' if clients > 1 else ''}",
        "images/s",
        Figure.of(rates[""]),
        SERIAL,
        Figure.of(rates[SERIAL]),
        aim=AIMS.get((name, clients)),
    )


def _difference(name: str, generator: ImageGenerator, engine: Engine) -> Row:
    wanted = requests(max(CLIENTS))
    with redirect_stdout(StringIO()):
        images = paint(engine, len(wanted), wanted)
        alone = {request.seed: generator.generate(request) for request in wanted}
    worst = min(psnr(image.pixels, alone[image.provenance.request.seed].pixels) for image in images)
    what = f"{name}, an image against one alone"
    if math.isinf(worst):
        return Row(what, "", Figure(0), note="different values; all are equal")
    return Row(what, "dB", Figure(worst), note="the worst of 8")


def measure(models: Sequence[str], rounds: int) -> Section:
    """Measure models; without a GPU, those that need one are rows without a figure."""
    torch.set_num_threads(1)
    has_gpu = torch.cuda.is_available()
    rows: list[Row] = []
    for name in models:
        if name in DEMOS or has_gpu:
            rows += rows_of(name, rounds)
        else:
            aim = AIMS.get((name, 8))
            rows.append(
                Row(f"{name}, 8 clients", "images/s", None, SERIAL, aim=aim, note="needs a GPU")
            )
    hardware = torch.cuda.get_device_name() if has_gpu else ""
    return Section(
        "Batches of requests",
        TEXT,
        tuple(rows),
        packages=("torch", "diffusers", "transformers"),
        hardware=hardware,
    )


def section(quick: bool = False) -> Section:
    """Measure the demo model, and the large ones where there is a GPU."""
    return measure([*DEMOS, "sd-turbo", "sdxl"], 2 if quick else 3)


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description="Measure batches of requests.")
    parser.add_argument("--models", default=",".join([*DEMOS, "sd-turbo", "sdxl"]))
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    options = parser.parse_args()
    models = options.models.split(",")
    if unknown := {*models} - {*DEMOS, *MODELS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print_section(lambda: measure(models, max(options.rounds, 2)))


if __name__ == "__main__":
    main()
