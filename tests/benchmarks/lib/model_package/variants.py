"""The variants that `gpu.py` compares: plain diffusers, and Easel with its settings."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

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
from tests.benchmarks.lib.model_package.full_size import MODELS, ModelSpec, make, unshare

DEMO = Path(__file__).parents[4] / "model_package" / "demo" / "weights"
ANCESTOR_STEPS = 50  # diffusers' default; the recipe keeps it, and 32 bits
PROMPT = "a red apple"
PLAIN, ANCESTOR = "plain diffusers", "the ancestor's pipeline"
GUIDE_APART = "the SDXL guide's recipe, nothing shared"
COMPILED = "Easel, compiled regionally"
CACHED = "Easel, compiled, with its cache"
BATCHES = "batches"

# The most informative ones come first: those that exceed the time are left out.
VARIANTS: dict[str, dict[str, str]] = {
    PLAIN: {},
    ANCESTOR: {},
    GUIDE_APART: {},
    "Easel": {"EASEL_COMPILE": "off"},
    COMPILED: {"EASEL_COMPILE": "regional"},
    BATCHES: {},  # measured by `batches.py`
    CACHED: {},  # measured by `first_image.py`
    "Easel, compiled fully": {"EASEL_COMPILE": "full"},
    "Easel, CUDA graphs": {"EASEL_COMPILE": "full", "EASEL_CUDA_GRAPHS": "on"},
    "Easel, channels last": {"EASEL_COMPILE": "off", "EASEL_CHANNELS_LAST": "on"},
    "Easel, weights in 8 bits": {"EASEL_COMPILE": "off", "EASEL_STORAGE": "fp8"},
    "Easel, DPM++ 2M Karras": {"EASEL_SAMPLER": "dpm++-2m-karras"},
    "Easel, guidance for 40 % of the steps": {"EASEL_GUIDANCE_CUTOFF": "0.4"},
}
UNCHANGED = {  # the same images, except for rounding
    "Easel",
    COMPILED,
    "Easel, compiled fully",
    "Easel, CUDA graphs",
    "Easel, channels last",
}
ONLY_FOR = {ANCESTOR: {"sd", "demo"}, GUIDE_APART: {"sdxl-refiner"}}


def demo() -> ModelSpec:
    """Return the bundled model with its defaults."""
    return ModelSpec(list, steps=20, guidance_scale=3.0, side=128)


def spec_of(name: str) -> ModelSpec:
    """Return a model by its name."""
    return demo() if name == "demo" else MODELS[name]


def build(name: str, dtype: torch.dtype, device: torch.device) -> list[Any]:
    """Load a model's pipelines."""
    if name != "demo":
        return make(MODELS[name], dtype, device)
    pipeline = load_pipeline(DEMO, dtype=dtype, device=device, allow_pickle=False)
    return [pipeline]


def dtype_on(device: torch.device) -> torch.dtype:
    """Return the endpoint's dtype on a GPU, and 32 bits elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32


class PlainDiffusers:
    """Pipelines called as in diffusers' documentation; Pillow saves the image.

    The base hands over to its refiner after 80 % of the denoising, as in diffusers' guide to SDXL
    (huggingface.co/docs/diffusers/using-diffusers/sdxl).
    """

    def __init__(self, pipelines: Sequence[Any], spec: ModelSpec) -> None:
        self.report: dict[str, str] = {}
        self._pipelines = pipelines
        self._spec = spec

    def generate(self, steps: int) -> bytes:
        return self.generate_batch(steps, 1)[0]

    def generate_batch(self, steps: int, count: int) -> list[bytes]:
        generators = [torch.Generator("cpu").manual_seed(7 + place) for place in range(count)]
        shared = {"num_inference_steps": steps, "guidance_scale": self._spec.guidance_scale}
        shared |= {"prompt": PROMPT, "generator": generators, "num_images_per_prompt": count}
        size = {"width": self._spec.side, "height": self._spec.side}
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
    """The image generator as the endpoint uses it."""

    def __init__(self, pipelines: Sequence[Any], spec: ModelSpec, environ: dict[str, str]) -> None:
        base, *refiners = pipelines
        self._base = base
        vae.prepare(base, device=base.device, tiling=False)
        settings = SpeedSettings.from_environ(environ)
        caches = [settings.compile_cache] if settings.compile_cache else []
        speed = Speed(pipelines, settings, compiler.Compiler(pipelines, caches))
        sizes = Defaults(
            steps=spec.steps, guidance_scale=spec.guidance_scale, width=spec.side, height=spec.side
        )
        refiner = refiners[0] if refiners else None
        self._sizes = sizes
        self._ensemble = Ensemble(base, refiner, guided_share=settings.guidance_cutoff)
        self.generator = ImageGenerator(base, sizes, refiner=refiner, speed=speed, metadata=False)
        self.generator.warm_up()
        self.report = speed.report

    def generate(self, steps: int) -> bytes:
        request = GenerationRequest(prompt=PROMPT, seed=7, steps=steps)
        return encode_file(self.generator.generate(request))

    def generate_batch(self, steps: int, count: int) -> list[bytes]:
        """Generate a batch, which the endpoint does not; its first image has `generate`'s noise.

        A compiled model is compiled again for each new batch size.
        """
        request = Capabilities.of(self._base).arguments(
            GenerationRequest(prompt=PROMPT, steps=steps).complete(**self._sizes.to_dict())
        )
        request["num_images_per_prompt"] = count
        images = self._ensemble.run(request, seed=7, state="").images
        return [encode_png(to_pixels(image)) for image in images]


def build_variant(name: str, spec: ModelSpec, variant: str) -> Any:
    """Load one variant of a model."""
    device = choose_device()
    dtype = torch.float32 if variant == ANCESTOR else dtype_on(device)
    pipelines = build(name, dtype, device)
    if variant == GUIDE_APART:
        unshare(pipelines)
    environ = VARIANTS[variant]
    return Easel(pipelines, spec, environ) if environ else PlainDiffusers(pipelines, spec)


class Reference:
    """Plain diffusers with the same model, loaded on first use."""

    def __init__(self, name: str, spec: ModelSpec) -> None:
        self._name = name
        self._spec = spec

    @cached_property
    def model(self) -> Any:
        return build_variant(self._name, self._spec, PLAIN)

    @cached_property
    def pixels(self) -> Any:
        return read_pixels(self.model.generate(self._spec.steps))


def read_pixels(file: bytes) -> Any:
    """Return the pixels of an image file."""
    with Image.open(BytesIO(file)) as image:
        return np.asarray(image)


def clock() -> float:
    """Return seconds; without a GPU, of CPU time, which excludes other processes."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def psnr(ours: Any, theirs: Any) -> float:
    """Return the peak signal-to-noise ratio in decibels; infinite for equal images."""
    error = float(((ours.astype(float) - theirs) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf
