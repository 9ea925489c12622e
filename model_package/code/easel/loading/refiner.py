"""The refiner of an ensemble of experts: found and loaded beside a base that it shares parts with.

SDXL's base and refiner are trained for different shares of the denoising. They have the second text
encoder and the VAE in common, so those are neither fetched nor loaded twice: in fp16 the two take
10.7 GiB instead of 12.1, and only so there is room to decode on a GPU of 16 GB.

A refiner for Stable Diffusion 1 or 2 is a folder that says it is the same kind of pipeline as the
base, and holds a UNet. It shares everything else.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from easel.errors import ModelUnusable
from easel.loading import hub, model_folder
from easel.loading.pipeline import load_pipeline
from easel.pipelines import unet_swap
from easel.settings import Settings
from easel.startup.stopwatch import Stopwatch

SHARED = ("text_encoder_2", "tokenizer_2", "vae")


def find_refiner(model_dir: Path, settings: Settings) -> Path | None:
    """Return the folder of the refiner, fetched from the hub if need be; None without one.

    Raises:
        ModelUnusable: if the hub does not give it.
    """
    folder = model_dir / "refiner"
    if model_folder.holds_model(folder):
        return folder
    if settings.refiner_id is None:
        return None
    return hub.fetch(
        settings.refiner_id,
        settings.refiner_revision,
        allow_pickle=settings.allow_pickle,
        without=SHARED,
        variables="EASEL_REFINER",
    )


def load_refiner(
    folder: Path,
    base: Any,
    *,
    dtype: torch.dtype,
    device: torch.device,
    allow_pickle: bool,
    stopwatch: Stopwatch | None = None,
) -> Any:
    """Return the refiner that `folder` holds, made of the base's parts as far as they share them.

    The stopwatch is told of the same steps as by `load_pipeline`.

    Raises:
        ModelUnusable: if it cannot be loaded, or one of the two is not made for an ensemble.
    """
    takes_over = _load_like_sdxl if _has(base, "denoising_end") else _load_like_base
    how: Any = {
        "dtype": dtype,
        "device": device,
        "allow_pickle": allow_pickle,
        "stopwatch": stopwatch,
    }
    return takes_over(folder, base, **how)


def _load_like_sdxl(folder: Path, base: Any, **how: Any) -> Any:
    """Return a pipeline that goes on from the base's latents."""
    shared = {name: base.components[name] for name in SHARED}
    refiner = load_pipeline(folder, **how, shared=shared)
    if not _has(refiner, "denoising_start"):
        raise ModelUnusable(f"{type(refiner).__name__} in {folder} cannot take over from a base")
    return refiner


def _load_like_base(folder: Path, base: Any, **how: Any) -> Any:
    """Return a pipeline with a UNet of its own and all else the base's."""
    kind = type(base).__name__
    named = model_folder.read_index(folder / model_folder.INDEX).get("_class_name")
    if named != kind or not unet_swap.can_swap(base):
        raise ModelUnusable(
            f"{kind} cannot hand over to {named}; SDXL's base can, and so can a "
            "Stable Diffusion to one with another UNet"
        )
    shared = {name: part for name, part in base.components.items() if name != "unet"}
    refiner = load_pipeline(folder, **how, shared=shared)
    wrong = unet_swap.misfit(base, refiner)
    if wrong:
        raise ModelUnusable(f"{folder} cannot take over from a base: {wrong}")
    return refiner


def _has(pipeline: Any, parameter: str) -> bool:
    return parameter in inspect.signature(pipeline.__call__).parameters
