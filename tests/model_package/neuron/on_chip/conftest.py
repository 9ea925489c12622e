"""Tests that run in the environment `.cache/neuron`, where optimum-neuron is the real one.

The folder `runtime` next to this one imitates what is below optimum-neuron.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_neuronx
from diffusers import DiffusionPipeline, UNet2DConditionModel
from neuron.__main__ import main
from optimum.neuron.utils import instance, system
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from model_package.stand_in import make_stand_in
from model_package.training.adapter import Adapter
from model_package.training.base_model import load as load_base
from model_package.training.job import Job
from tests.model_package.doubles.toolkit import Toolkit

WIDTH, HEIGHT = 80, 128
DEFAULTS = {"steps": 3, "width": WIDTH, "height": HEIGHT}


@pytest.fixture(autouse=True)
def chip(monkeypatch, environment):
    """A machine with one Inferentia2 chip, which has two cores."""
    monkeypatch.setattr(system, "get_available_cores", lambda: 2)
    monkeypatch.setattr(instance, "current_instance_type", lambda: "trn1")
    monkeypatch.setenv("EASEL_DEFAULTS", json.dumps(DEFAULTS))
    torch_neuronx.DataParallel.used.clear()


@dataclass
class Compiled:
    """A job that has ended.

    Attributes:
        source: the model's folder.
        home: of the job.
        lora: the adapter's file, if there is one.
    """

    source: Path
    home: Path
    lora: Path | None = None

    @property
    def folder(self):
        return self.home / "model"

    @cached_property
    def served(self):
        """A serving toolkit with the model, as the settings are without a test's own."""
        return self.serve()

    def serve(self):
        """Return a serving toolkit with the model; fails if it could not be loaded."""
        toolkit = Toolkit(self.folder)
        toolkit.model.loaded()
        return toolkit

    def plain(self, scheduler=None):
        """Return diffusers' own pipeline, with the adapter by diffusers' own reading of it."""
        pipeline = DiffusionPipeline.from_pretrained(self.source)
        pipeline.set_progress_bar_config(disable=True)
        if self.lora:
            pipeline.load_lora_weights(str(self.lora.parent), weight_name=self.lora.name)
            pipeline.fuse_lora(lora_scale=0.7)
        if scheduler:
            pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
        return pipeline


def paint_plainly(pipeline, **arguments):
    """Return diffusers' picture, for seed 7."""
    defaults = {"prompt": "a cat", "num_inference_steps": 3, "width": WIDTH, "height": HEIGHT,
                "guidance_scale": 5.0}  # fmt: skip
    generator = torch.Generator("cpu").manual_seed(7)
    result = pipeline(**{**defaults, **arguments}, generator=generator, output_type="np")
    return (result.images[0] * 255).round().astype(int)


def prepare(home, source, file=None, **fields):
    """Write the channels of a job."""
    channels = home / "input" / "data"
    (channels / "job").mkdir(parents=True, exist_ok=True)
    if not (channels / "model").exists():
        (channels / "model").symlink_to(source)
    if file is not None and not (channels / "lora").exists():
        (channels / "lora").symlink_to(file.parent)
    job = {"width": WIDTH, "height": HEIGHT, "lora": None, **fields}
    (channels / "job" / "job.json").write_text(json.dumps(job))


def run_job(home, source, file=None, **fields):
    """Run the job, as the container does; return its exit code."""
    prepare(home, source, file, **fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EASEL_TRAINING_HOME", str(home))
        return main()


def train(source, path):
    """Write an adapter as the project's trainer does, with random numbers instead of learned."""
    base = load_base(source, "fp32")
    job = Job.from_dict({"name": "watercolour", "instance_prompt": "a cat", "rank": 4, "conv": True,
                         "text_encoder_rate": 1e-4})  # fmt: skip
    adapter = Adapter(base, job)
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in adapter.layers:
            layer.up.copy_(torch.randn(layer.up.shape, generator=numbers) * 0.2)
    adapter.write(path, {})
    return path


def make_turbo(folder):
    """Write a model that differs from Stable Diffusion 1 as SD-Turbo does, by another text encoder
    and projections; the scheduler is of the same kind."""
    make_stand_in(folder)
    for part, changes in {
        "unet": {"use_linear_projection": True, "upcast_attention": True},
        "text_encoder": {"hidden_act": "gelu", "num_hidden_layers": 1},
    }.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
    unet.save_pretrained(folder / "unet")
    encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
    encoder.save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def compiled(stand_in, tmp_path_factory):
    """Return a function that compiles a kind of stand-in model, each once."""
    made = {}

    def make(kind="sd", lora=False, **options):
        key = (kind, lora, *options.items())
        if key not in made:
            home = tmp_path_factory.mktemp("job")
            turbo = kind == "turbo"
            source = make_turbo(home / "source") if turbo else stand_in(kind=kind, **options)
            file = home / "trained" / "watercolour.safetensors" if lora else None
            name = {"name": "watercolour", "weight": 0.7} if file else None
            if file:
                train(source, file)
            assert run_job(home, source, file, lora=name) == 0
            made[key] = Compiled(source, home, file)
        return made[key]

    return make


def pixels(png):
    """Return a file's pixels."""
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)
