"""Tiny models of several families, and callers of an engine that misbehave on request."""

from __future__ import annotations

import math
from copy import copy
from functools import cache

import diffusers
import torch
from transformers import CLIPTextModelWithProjection

from easel.batching.engine import Engine
from easel.batching.sizes import Sizes
from easel.defaults import Defaults
from easel.generator import ImageGenerator
from easel.speed.host_timesteps import keep_steps_on_the_host
from easel.startup.quiet import without_warnings
from generation import GenerationRequest
from model_package import stand_in

NAN_SEED = 13  # the latents of this one are not a number

# Schedulers with all kinds of state: none, several steps' outputs, a random generator of their own.
FAMILIES = {
    "euler": ("sd", "EulerDiscreteScheduler", {}),
    "moderated": ("sd, moderated", "EulerDiscreteScheduler", {}),
    "ddim": ("sd", "DDIMScheduler", {"timestep_spacing": "trailing"}),
    "dpm++": ("sd", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("sd", "UniPCMultistepScheduler", {}),
    "pndm": ("sd", "PNDMScheduler", {"skip_prk_steps": True}),
    "lcm": ("sd", "LCMScheduler", {}),
    "ancestral": ("sd", "EulerAncestralDiscreteScheduler", {}),
    "heun": ("sd", "HeunDiscreteScheduler", {}),
    "refined": ("sd, refined", "EulerDiscreteScheduler", {}),
    "sdxl": ("sdxl", "EulerDiscreteScheduler", {}),
    "sdxl, dpm++": ("sdxl", "DPMSolverMultistepScheduler", {}),
    "ensemble": ("ensemble", "EulerDiscreteScheduler", {}),
    "sd3": ("sd3", "FlowMatchEulerDiscreteScheduler", {}),
}


@cache
def pipelines(kind):
    """Return a base, and a refiner or None, with the loader's changes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = (
            [sd3()]
            if kind == "sd3"
            else [*stand_in._pipelines(kind.partition(",")[0], None).values()]
        )
        if kind == "sd, refined":
            made.append(stand_in._sd(None))
    for pipeline in made:
        pipeline.set_progress_bar_config(disable=True)
        pipeline.__class__ = faulty(type(pipeline), moderated=kind == "sd, moderated")
    return made[0], made[1] if len(made) > 1 else None


def sd3():
    """Return a tiny Stable Diffusion 3: a transformer whose prompts Easel does not encode."""
    encoders = [stand_in._text_encoder(CLIPTextModelWithProjection, "gelu") for _ in range(2)]
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
    )
    vae = stand_in._vae(scaling_factor=1.5)
    vae.register_to_config(shift_factor=0.06)
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        text_encoder_3=None,
        tokenizer=stand_in.byte_tokenizer("!"),
        tokenizer_2=stand_in.byte_tokenizer("!"),
        tokenizer_3=None,
    )


@cache
def faulty(kind, *, moderated):
    """Return a pipeline's class with a seed that fails, and perhaps a safety checker."""

    def prepare_latents(self, *args, **options):
        latents = kind.prepare_latents(self, *args, **options)
        seeds = [each.initial_seed() for each in args if isinstance(each, torch.Generator)]
        return latents * math.nan if seeds == [NAN_SEED] else latents

    def run_safety_checker(self, image, *args):
        return image, [moderated and blocks(image)]

    methods = {"prepare_latents": prepare_latents, "run_safety_checker": run_safety_checker}
    # Easel knows pipelines by the names of their classes.
    return type(kind.__name__, (kind,), methods)


@cache
def generator(family):
    """Return a family's generator."""
    kind, scheduler, changes = FAMILIES[family]
    base, refiner = (part and copy(part) for part in pipelines(kind))
    with without_warnings():
        base.scheduler = getattr(diffusers, scheduler).from_config(base.scheduler.config, **changes)
    keep_steps_on_the_host([part for part in (base, refiner) if part])
    return ImageGenerator(base, Defaults(refiner_start=0.5), refiner=refiner)


def blocks(image):
    """Block one in three images, by its bits."""
    return image.isfinite().all().item() and int(image.double().sum().item() * 1e6) % 3 == 0


class Caller:
    """A watch that leaves after some steps, or whose time is up from the start."""

    def __init__(self, *, leaves_after=None, late=False, previews=False):
        self.deadline = 0.0 if late else math.inf
        self.previews = previews
        self.shown = []
        self.progress = []
        self._leaves_after = leaves_after

    def cancelled(self):
        return self._leaves_after is not None and len(self.progress) >= self._leaves_after

    def progressed(self, step, steps):
        self.progress.append((step, steps))

    def wants_preview(self):
        return self.previews

    def preview(self, pixels):
        self.shown.append(pixels)


def engine_of(family, size, **options):
    """Return an engine that paints everything at one size."""
    return Engine(generator(family), Sizes({size: 1.0}, exact=True), **options)


def paint(engine, *requests):
    """Paint requests that arrive at once; return the results in their order."""
    return [result for _, result in run(engine, [(0, each, Caller()) for each in requests])]


def run(engine, arrivals):
    """Run an engine until it is idle.

    Args:
        engine: an idle one.
        arrivals: the turn after which a request arrives, the request and its watch.

    Returns:
        For each arrival the turn in which it ended, and its result.
    """
    ended, turn = {}, 0
    while engine.busy or len(ended) < len(arrivals):
        for when, request, watch in arrivals:
            if when == turn:
                engine.add(request, watch)
        ended |= {id(watch): (turn, result) for watch, result in engine.step()}
        turn += 1
    return [ended[id(watch)] for _, _, watch in arrivals]


def request(prompt="a cat", **fields):
    """Return a small request."""
    return GenerationRequest(
        **{"prompt": prompt, "seed": 1, "steps": 3, "width": 64, "height": 64, **fields}
    )
