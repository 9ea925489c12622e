"""The refiner of an ensemble of experts: found and loaded beside a base that it shares parts with.

SDXL's base and refiner are trained for different shares of the denoising. They have the second text
encoder and the VAE in common, so those are neither fetched nor loaded twice: in fp16 the two take
10.7 GiB instead of 12.1, and only so there is room to decode on a GPU of 16 GB.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

import easel_folder
import easel_hub
import easel_pipeline
from easel_errors import ModelUnusable
from easel_settings import Settings

SHARED = ("text_encoder_2", "tokenizer_2", "vae")


def find_refiner(model_dir: Path, settings: Settings) -> Path | None:
    """Return the folder of the refiner, fetched from the hub if need be; None without one.

    Raises:
        ModelUnusable: if the hub does not give it.
    """
    folder = model_dir / "refiner"
    if easel_folder.holds_model(folder):
        return folder
    if settings.refiner_id is None:
        return None
    return easel_hub.fetch(
        settings.refiner_id,
        settings.refiner_revision,
        allow_pickle=settings.allow_pickle,
        without=SHARED,
        variables="EASEL_REFINER",
    )


def load_refiner(
    folder: Path, base: Any, *, dtype: torch.dtype, device: torch.device, allow_pickle: bool
) -> Any:
    """Return the refiner that `folder` holds, made of the base's parts as far as they share them.

    Raises:
        ModelUnusable: if it cannot be loaded, or one of the two is not made for an ensemble.
    """
    if "denoising_end" not in inspect.signature(base.__call__).parameters:
        raise ModelUnusable(f"{type(base).__name__} cannot hand over to a refiner; SDXL's base can")
    shared = {name: base.components[name] for name in SHARED}
    refiner = easel_pipeline.load_pipeline(
        folder, dtype=dtype, device=device, allow_pickle=allow_pickle, shared=shared
    )
    if "denoising_start" not in inspect.signature(refiner.__call__).parameters:
        raise ModelUnusable(f"{type(refiner).__name__} in {folder} cannot take over from a base")
    return refiner
