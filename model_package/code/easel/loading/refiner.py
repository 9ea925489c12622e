"""The refiner of an ensemble of experts: find it and load it with components of the base.

SDXL's base and refiner are trained for different shares of the denoising. The second text encoder
and the VAE are the same in both, so they are not fetched or loaded twice: in fp16 the two pipelines
take 10.7 GiB instead of 12.1, which leaves enough memory to decode on a GPU of 16 GB.

A refiner for Stable Diffusion 1 or 2 is a folder with the same pipeline class as the base and a
UNet. It shares everything else.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from easel.errors import ModelUnusable
from easel.loading import hub
from easel.loading.pipeline import load_pipeline, read_index
from easel.model_folder import files as model_folder
from easel.pipelines import unet_swap
from easel.settings import Settings
from easel.startup.stopwatch import Stopwatch


def find_refiner(model_dir: Path, settings: Settings, home: Path | None = None) -> Path | None:
    """Return the folder of the refiner, fetched from the hub if necessary; None without one.

    Args:
        model_dir: the container's model folder.
        settings: name another repository's refiner.
        home: the model's own folder, if that is another one; its refiner comes last.

    Raises:
        ModelUnusable: if it cannot be fetched.
    """
    folder = model_dir / model_folder.REFINER
    if model_folder.holds_model(folder):
        return folder
    if settings.refiner_id is None:
        own = (home or model_dir) / model_folder.REFINER
        return own if model_folder.holds_model(own) else None
    return hub.fetch(
        settings.refiner_id,
        settings.refiner_revision,
        allow_pickle=settings.allow_pickle,
        without=model_folder.SHARED,
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
    """Return the refiner in `folder`, with the components that it shares with the base.

    The stopwatch records the same steps as for `load_pipeline`.

    Raises:
        ModelUnusable: if it cannot be loaded, or if one of the two does not support an ensemble.
    """
    # Only pipelines that can stop early have this parameter.
    load = _load_like_sdxl if _has(base, "denoising_end") else _load_like_base
    how: Any = {
        "dtype": dtype,
        "device": device,
        "allow_pickle": allow_pickle,
        "stopwatch": stopwatch,
    }
    return load(folder, base, **how)


def _load_like_sdxl(folder: Path, base: Any, **how: Any) -> Any:
    """Return a pipeline that continues from the base's latents."""
    shared = {name: base.components[name] for name in model_folder.SHARED}
    refiner = load_pipeline(folder, **how, shared=shared)
    if not _has(refiner, "denoising_start"):
        raise ModelUnusable(f"{type(refiner).__name__} in {folder} cannot take over from a base")
    return refiner


def _load_like_base(folder: Path, base: Any, **how: Any) -> Any:
    """Return a pipeline with its own UNet and the base's other components."""
    base_class = type(base).__name__
    # From the index, so that a wrong refiner is refused before anything is loaded.
    refiner_class = read_index(folder).get("_class_name")
    if refiner_class != base_class or not unet_swap.can_swap(base):
        raise ModelUnusable(
            f"{base_class} cannot hand over to {refiner_class}; supported are SDXL's base and "
            "refiner, and two Stable Diffusion models of the same class"
        )
    # diffusers then reads only the UNet from the folder.
    shared = {name: part for name, part in base.components.items() if name != "unet"}
    refiner = load_pipeline(folder, **how, shared=shared)
    misfit = unet_swap.misfit(base, refiner)
    if misfit:
        raise ModelUnusable(f"{folder} cannot take over from a base: {misfit}")
    return refiner


def _has(pipeline: Any, parameter: str) -> bool:
    return parameter in inspect.signature(pipeline.__call__).parameters
