"""Easel's own script, with a model in which certain widths go wrong, on every server alike.

FAULTS_FOLDER is for its files: `loading` is there once the model begins to load, which waits for
`go`; `calls` gets a line for each call of the UNet for a slow image.
"""

import os
import time
from pathlib import Path

import torch
from widths import BLOCKED, DEADLY, NO_MEMORY, NOT_A_NUMBER, SLOW

import inference
from inference import deadline_fn, engine_fn, input_fn, output_fn, predict_fn  # noqa: F401

_SCALE = 8
HOME = Path(os.environ["FAULTS_FOLDER"])


def model_fn(model_dir, context=None):
    (HOME / "loading").touch()
    while not (HOME / "go").exists():
        time.sleep(0.02)
    model = inference.model_fn(model_dir, context)
    if (Path(model_dir) / "unet").is_dir():
        pipeline = model.generator().ensemble._base
        pipeline.unet.register_forward_pre_hook(before, with_kwargs=True)
        pipeline.unet.register_forward_hook(after)
        pipeline.safety_checker.register_forward_pre_hook(look, with_kwargs=True)
        pipeline.safety_checker.register_forward_hook(judge)
    return model


def before(unet, arguments, named):
    sample = named["sample"] if "sample" in named else arguments[0]
    width = sample.shape[-1] * _SCALE
    if width == NO_MEMORY:
        torch.empty(1 << 60)
    if width == DEADLY:
        os._exit(9)
    if width == SLOW:
        with (HOME / "calls").open("a") as file:
            file.write("call\n")
        time.sleep(0.1)


def after(unet, arguments, result):
    noise = result[0]
    if noise.shape[-1] * _SCALE == NOT_A_NUMBER:
        noise.fill_(float("nan"))


def look(checker, arguments, named):
    images = named["images"] if "images" in named else arguments[1]
    # Height and width, or width and channels.
    checker.sides = images[0].shape[1:]


def judge(checker, arguments, result):
    images, _ = result
    return images, [BLOCKED in checker.sides] * len(images)
