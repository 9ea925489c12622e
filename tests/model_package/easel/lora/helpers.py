"""Pipelines with adapters, and images of them."""

import torch

from easel.defaults import Defaults
from easel.generator import ImageGenerator
from easel.loading.pipeline import load_pipeline
from easel.loading.refiner import load_refiner
from easel.lora.adapters import Loras
from generation import GenerationRequest

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}


REQUEST = {"prompt": "a cat", "seed": 7}
SIZE = Defaults(steps=2, width=64, height=64)


KINDS = ["sd", "sdxl", "ensemble"]


def load(folder):
    if (folder / "base").is_dir():
        base = load_pipeline(folder / "base", **HOW)
        return [base, load_refiner(folder / "refiner", base, **HOW)]
    return [load_pipeline(folder, **HOW)]


def state(pipelines):
    return {
        (place, name, key): value.clone()
        for place, pipeline in enumerate(pipelines)
        for name in ("unet", "text_encoder", "text_encoder_2", "vae")
        for key, value in (getattr(pipeline, name, None) or torch.nn.Module()).state_dict().items()
    }


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def generator(pipelines, **files):
    refiner = pipelines[1] if len(pipelines) > 1 else None
    loras = Loras(files.items(), pipelines)
    return ImageGenerator(pipelines[0], SIZE, refiner=refiner, loras=loras)


def generate(by, lora="", **fields):
    return by.generate(GenerationRequest(**{**REQUEST, "lora": lora, **fields})).pixels
