"""Every model of the catalogue at tiny size, with random weights, through the real classes.

Each loads, paints, repeats its bytes, and paints what plain diffusers paints.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from easel.load import load_generator
from easel.speed import eight_bits
from easel.startup.quiet import without_warnings
from endpoint.catalogue import memory
from endpoint.catalogue import models as catalogue
from generation import GenerationRequest
from tests.model_package.doubles import families
from tests.model_package.doubles.lora_files import random_layers, write_diffusers

SIZE = {"width": 64, "height": 64}
PROMPT = "a cat"
SEED = 7
ENVIRON = {"EASEL_DTYPE": "fp32", "EASEL_COMPILE": "off"}


@dataclass(frozen=True)
class Tiny:
    """A model of the catalogue at tiny size.

    Attributes:
        made: a kind of `stand_in.py`, or a name of `doubles.families`.
        defaults: of the request.
        environ: settings that belong to the model.
    """

    made: str
    defaults: dict[str, float]
    environ: tuple[tuple[str, str], ...] = ()


STEPS = {"steps": 2}
TURBO = {"steps": 1, "guidance_scale": 0.0}
TINY = {
    "sd": Tiny("sd", {"steps": 2, "guidance_scale": 7.5}),
    "sd-turbo": Tiny("sd", TURBO),
    # Both pipelines get 5 steps of the schedule that they share.
    "sdxl": Tiny("ensemble", {"steps": 5, "guidance_scale": 5.0}),
    "sdxl-turbo": Tiny("sdxl", TURBO),
    "sdxl-lightning": Tiny(
        "lightning", {"steps": 2, "guidance_scale": 0.0}, (("EASEL_SAMPLER", "euler-trailing"),)
    ),
    "flux2-klein": Tiny("flux2-klein", {"steps": 2, "guidance_scale": 1.0}),
    "z-image": Tiny("z-image", {"steps": 2, "guidance_scale": 4.0}),
    "z-image-turbo": Tiny("z-image", {"steps": 2, "guidance_scale": 0.0}),
    "ernie-image-turbo": Tiny("ernie-image", {"steps": 2, "guidance_scale": 1.0}),
    "flux3-klein": Tiny("flux3-klein", STEPS),
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory, stand_in):
    made = {}

    def make(name):
        if name not in made:
            made[name] = (
                lightning(stand_in, tmp_path_factory.mktemp("lightning"))
                if name == "lightning"
                else families.make_family(name, tmp_path_factory.mktemp(name))
                if name in families.FAMILIES
                else stand_in(kind=name)
            )
        return made[name]

    return make


def lightning(stand_in, folder):
    """Return SDXL with a LoRA for few steps, as a LoRA of the community: of the UNet alone."""
    shutil.copytree(stand_in(kind="sdxl"), folder, dirs_exist_ok=True)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    (folder / "merged_lora").mkdir()
    layers = random_layers(pipeline, parts=("unet",))
    write_diffusers(folder / "merged_lora/few_steps.safetensors", layers, alpha=4)
    return folder


def load(folder, tiny, **environ):
    defaults = json.dumps({**tiny.defaults, **SIZE})
    every = {**ENVIRON, **dict(tiny.environ), "EASEL_DEFAULTS": defaults, **environ}
    return load_generator(folder, every)


@pytest.fixture(scope="module")
def painter(folder_of):
    """Return a function that loads a model, each once."""
    loaded = {}

    def get(name):
        if name not in loaded:
            loaded[name] = load(folder_of(TINY[name].made), TINY[name])
        return loaded[name]

    return get


def paint(generator, **fields):
    request = GenerationRequest(**{"prompt": PROMPT, "seed": SEED, **fields})
    return generator.generate(request).pixels


def difference(one, other):
    return int(abs(one.astype(int) - other.astype(int)).max())


def plain(name, folder, lora=None):
    """Return what diffusers alone paints, with the arguments that its documentation shows."""
    with without_warnings():
        return as_pixels(plain_images(TINY[name], folder, lora))


def plain_images(tiny, folder, lora):
    arguments = {"prompt": PROMPT, "num_inference_steps": tiny.defaults["steps"], **SIZE}
    if "guidance_scale" in tiny.defaults:
        arguments["guidance_scale"] = tiny.defaults["guidance_scale"]
    torch.manual_seed(SEED)
    how = {"generator": torch.Generator().manual_seed(SEED), "output_type": "np"}
    if tiny.made == "ensemble":
        return plain_ensemble(folder, arguments, how)
    modular = (folder / "modular_model_index.json").is_file()
    load_plain = plain_modular if modular else diffusers.DiffusionPipeline.from_pretrained
    pipeline = load_plain(folder, dtype=torch.float32)
    for path in folder.glob("merged_lora/*"):
        pipeline.load_lora_weights(str(path))
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
        pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(
            pipeline.scheduler.config, timestep_spacing="trailing"
        )
    if lora is not None:
        pipeline.load_lora_weights(str(lora))
    pipeline.set_progress_bar_config(disable=True)
    if modular:
        return pipeline(**arguments, **how, output="images")
    return pipeline(**arguments, **how).images


def plain_modular(folder, dtype):
    blocks = diffusers.Flux3DistilledAutoBlocks()
    blocks.sub_blocks.pop("prompt_upsampler")
    pipeline = blocks.init_pipeline(str(folder))
    pipeline.load_components(["text_encoder", "transformer", "vae"], dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    pipeline.update_components(tokenizer=families.processor(tokenizer))
    return pipeline


def plain_ensemble(folder, arguments, how):
    base, refiner = (
        diffusers.DiffusionPipeline.from_pretrained(folder / part, dtype=torch.float32)
        for part in ("base", "refiner")
    )
    for pipeline in (base, refiner):
        pipeline.set_progress_bar_config(disable=True)
    how["output_type"] = "latent"
    latents = base(**arguments, **how, denoising_end=0.8).images
    rest = {name: arguments[name] for name in arguments if name not in SIZE}
    how["output_type"] = "np"
    return refiner(**rest, **how, image=latents, denoising_start=0.8).images


def as_pixels(images):
    return (np.asarray(images[0]) * 255).round().astype(np.uint8)


def test_every_model_of_the_catalogue_is_here():
    assert {*catalogue.read()} <= {*TINY}


@pytest.mark.parametrize("name", TINY)
def test_a_picture_is_repeated_and_is_that_of_its_prompt_and_seed(painter, name):
    generator = painter(name)
    first = paint(generator)

    assert first.shape == (64, 64, 3)
    assert first.std() > 5
    assert (paint(generator) == first).all()
    assert difference(paint(generator, seed=8), first) > 5
    assert difference(paint(generator, prompt="a dog on the moon"), first) > 0


@pytest.mark.parametrize("name", TINY)
def test_a_picture_is_that_of_plain_diffusers(painter, folder_of, name):
    expected = plain(name, folder_of(TINY[name].made))

    assert (paint(painter(name)) == expected).all()


@pytest.mark.parametrize("name", {tiny.made: name for name, tiny in TINY.items()}.values())
def test_a_lora_is_applied_as_by_diffusers(folder_of, painter, tmp_path, name):
    tiny = TINY[name]
    folder = shutil.copytree(folder_of(tiny.made), tmp_path / "model")
    (folder / "loras").mkdir()
    denoiser = painter(name).denoiser
    part = "unet" if hasattr(denoiser, "conv_in") else "transformer"
    one = type("One", (), {part: denoiser})
    path = folder / "loras/style.safetensors"
    write_diffusers(path, random_layers(one, parts=(part,)), alpha=4)
    generator = load(folder, tiny)
    bare, styled = paint(generator), paint(generator, lora="style:1")

    assert (bare == paint(painter(name))).all()
    assert difference(bare, styled) > 2
    if tiny.made != "ensemble":  # diffusers would need the file in two pipelines
        assert difference(styled, plain(name, folder, path)) <= 1
    assert (paint(generator) == bare).all()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("flux2-klein", "fp8"),
        ("z-image-turbo", "int8"),
        ("ernie-image-turbo", "fp8"),
        ("flux3-klein", "int8"),
    ],
)
def test_a_transformer_in_8_bits_paints_nearly_the_same(
    folder_of, painter, monkeypatch, name, form
):
    monkeypatch.setattr(eight_bits, "LARGE", 1_000)  # so that the text encoders are, too
    tiny = TINY[name]
    small = load(folder_of(tiny.made), tiny, EASEL_QUANTISE=form)
    whole = paint(painter(name)).astype(int)

    # At this size the VAE, which stays as it is, takes most of it.
    assert size(small) < 0.95 * size(painter(name))
    assert abs(paint(small) - whole).mean() < (1.5 if form == "fp8" else 0.3)
    assert (paint(small) == paint(small)).all()


def size(generator):
    """Return the bytes of all weights of a generator's pipeline."""
    components = generator._pipeline.components.values()
    parts = [part for part in components if isinstance(part, torch.nn.Module)]
    tensors = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors)


@pytest.mark.parametrize("name", TINY)
def test_the_formula_gives_what_the_weights_take(folder_of, painter, name):
    folder = folder_of(TINY[name].made)
    components = [part for part in memory.of_folder(folder) if "/" not in part.name]

    assert memory.weights(components, "fp32") == pytest.approx(size(painter(name)), rel=0.1)


# The transformers of the catalogue in their own size; the numbers are those of their config.json.
FULL = {
    "flux2-klein": {
        "num_layers": 5,
        "num_single_layers": 20,
        "num_attention_heads": 24,
        "joint_attention_dim": 7_680,
        "guidance_embeds": False,
    },
    "z-image-turbo": {},
    "ernie-image-turbo": {
        "hidden_size": 4_096,
        "num_attention_heads": 32,
        "num_layers": 36,
        "ffn_hidden_size": 12_288,
        "text_in_dim": 3_072,
    },
    "flux3-klein": {"flow_map": True},
}


@pytest.mark.parametrize("form", eight_bits.FORMATS)
@pytest.mark.parametrize("name", FULL)
def test_the_formula_gives_what_8_bits_take_at_full_size(painter, name, form):
    kind = type(painter(name).denoiser)
    with torch.device("meta"):  # sizes without numbers
        transformer = kind(**FULL[name]).to(torch.bfloat16)
    (entry,) = (each for each in catalogue.read()[name].components if each.is_denoiser)
    count = sum(parameter.numel() for parameter in transformer.parameters())
    pipeline = SimpleNamespace(transformer=transformer)
    eight_bits.EightBits(eight_bits.denoiser_layers([pipeline]), form).start()
    tensors = (*transformer.parameters(), *transformer.buffers())
    taken = sum(tensor.numel() * tensor.itemsize for tensor in tensors)

    assert entry.parameters == pytest.approx(count, rel=0.005)
    assert entry.size("bf16", form) == pytest.approx(taken, rel=0.1)
