"""The ways to paint that `gpu.py` compares: diffusers as others call it, and Easel's settings."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[3] / "model_package" / "code"))
from easel.defaults import Defaults
from easel.generator import ImageGenerator, to_pixels
from easel.loading import vae
from easel.loading.dtype import choose_device
from easel.loading.pipeline import load_pipeline
from easel.output.png import encode_png
from easel.pipelines.capabilities import Capabilities
from easel.pipelines.ensemble import Ensemble
from easel.serving.response import encode_file
from easel.speed import compiler
from easel.speed.speed import Speed, SpeedSettings
from easel.startup.quiet import without_warnings
from generation import GenerationRequest
from tests.benchmarks.lib.full_size import KINDS, Kind, make, unshare

DEMO = Path(__file__).parents[3] / "model_package" / "demo" / "weights"
ANCESTOR_STEPS = 50  # diffusers' default, in 32 bits, as the recipe leaves both
PROMPT = "a red apple"
PLAIN, ANCESTOR = "plain diffusers", "the ancestor's way"
GUIDE_APART = "the SDXL guide's recipe, nothing shared"
COMPILED = "Easel, compiled regionally"
CACHED = "Easel, compiled, with its cache"
BATCHES = "batches"

# Those that tell most come first: what there is no time for is left out.
VARIANTS: dict[str, dict[str, str]] = {
    PLAIN: {},
    ANCESTOR: {},
    GUIDE_APART: {},
    "Easel": {"EASEL_COMPILE": "off"},
    COMPILED: {"EASEL_COMPILE": "regional"},
    BATCHES: {},  # measured by `batches.py`
    CACHED: {},  # measured by `first_picture.py`
    "Easel, compiled fully": {"EASEL_COMPILE": "full"},
    "Easel, CUDA graphs": {"EASEL_COMPILE": "full", "EASEL_CUDA_GRAPHS": "on"},
    "Easel, channels last": {"EASEL_COMPILE": "off", "EASEL_CHANNELS_LAST": "on"},
    "Easel, weights in 8 bits": {"EASEL_COMPILE": "off", "EASEL_STORAGE": "fp8"},
    "Easel, DPM++ 2M Karras": {"EASEL_SAMPLER": "dpm++-2m-karras"},
    "Easel, guidance for 40 % of the steps": {"EASEL_GUIDANCE_CUTOFF": "0.4"},
}
UNCHANGED = {  # but for rounding
    "Easel",
    COMPILED,
    "Easel, compiled fully",
    "Easel, CUDA graphs",
    "Easel, channels last",
}
ONLY_FOR = {ANCESTOR: {"sd", "demo"}, GUIDE_APART: {"sdxl-refiner"}}


def demo() -> Kind:
    """Return the bundled model as it is asked for."""
    return Kind(list, steps=20, guidance_scale=3.0, side=128)


def kind_of(name: str) -> Kind:
    """Return a model by its name."""
    return demo() if name == "demo" else KINDS[name]


def build(name: str, dtype: torch.dtype, device: torch.device) -> list[Any]:
    """Return a model's pipelines, fresh."""
    if name != "demo":
        return make(KINDS[name], dtype, device)
    pipeline = load_pipeline(DEMO, dtype=dtype, device=device, allow_pickle=False)
    return [pipeline]


def dtype_on(device: torch.device) -> torch.dtype:
    """Return the numbers to compute in: as the endpoint does on a GPU, and exactly elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32


class Plainly:
    """Pipelines called as diffusers' documentation calls them; the picture is saved by Pillow.

    A base hands over to its refiner after 80 % of the denoising, as in diffusers' guide to SDXL
    (huggingface.co/docs/diffusers/using-diffusers/sdxl).
    """

    def __init__(self, pipelines: Sequence[Any], kind: Kind) -> None:
        self.report: dict[str, str] = {}
        self._pipelines = pipelines
        self._kind = kind

    def paint(self, steps: int) -> bytes:
        return self.paint_batch(steps, 1)[0]

    def paint_batch(self, steps: int, count: int) -> list[bytes]:
        generators = [torch.Generator("cpu").manual_seed(7 + place) for place in range(count)]
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
        return [_saved(image) for image in images]


def _saved(image: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class Easel:
    """The painter, as the endpoint has it."""

    def __init__(self, pipelines: Sequence[Any], kind: Kind, environ: dict[str, str]) -> None:
        base, *refiners = pipelines
        self._base = base
        vae.prepare(base, device=base.device, tiling=False)
        settings = SpeedSettings.from_environ(environ)
        caches = [settings.compile_cache] if settings.compile_cache else []
        speed = Speed(pipelines, settings, compiler.Compiler(pipelines, caches))
        sizes = Defaults(
            steps=kind.steps, guidance_scale=kind.guidance_scale, width=kind.side, height=kind.side
        )
        refiner = refiners[0] if refiners else None
        self._sizes = sizes
        self._ensemble = Ensemble(base, refiner, guided_share=settings.guidance_cutoff)
        self._generator = ImageGenerator(base, sizes, refiner=refiner, speed=speed, metadata=False)
        self._generator.warm_up()
        self.report = speed.report

    def paint(self, steps: int) -> bytes:
        wish = GenerationRequest(prompt=PROMPT, seed=7, steps=steps)
        return encode_file(self._generator.generate(wish))

    def paint_batch(self, steps: int, count: int) -> list[bytes]:
        """Paint what the painter does not: several at once, of which the first has `paint`'s noise.

        A compiled model is compiled for each size of a batch when it is first asked for it.
        """
        wish = Capabilities.of(self._base).arguments(
            GenerationRequest(prompt=PROMPT, steps=steps).complete(**self._sizes.to_dict())
        )
        wish["num_images_per_prompt"] = count
        images = self._ensemble.run(wish, seed=7, state="").images
        return [encode_png(to_pixels(image)) for image in images]


def build_way(name: str, kind: Kind, variant: str) -> Any:
    """Return one variant of a model, loaded anew."""
    device = choose_device()
    dtype = torch.float32 if variant == ANCESTOR else dtype_on(device)
    pipelines = build(name, dtype, device)
    if variant == GUIDE_APART:
        unshare(pipelines)
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
        return read_pixels(self.way.paint(self._kind.steps))


def read_pixels(file: bytes) -> Any:
    """Return the pixels that a file holds."""
    with Image.open(BytesIO(file)) as image:
        return np.asarray(image)


def clock() -> float:
    """Return seconds: of CPU time where no GPU does the work, since others share the CPU."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def psnr(ours: Any, theirs: Any) -> float:
    """Return how close two pictures are, in decibels; infinite for equal ones."""
    error = float(((ours.astype(float) - theirs) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf
