"""What a model that is compiled for one size refuses when it is loaded: what has no effect on it.

An adapter, a refiner or a setting that did nothing would be noticed late, by its pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from easel.defaults import Defaults
from easel.errors import ModelUnusable
from easel.settings import Settings
from easel.speed.speed import SpeedSettings


def refuse(
    settings: Settings, speed: SpeedSettings, folders: Sequence[Path], adapters: Sequence[Path]
) -> None:
    """Refuse what would have no effect on a compiled model.

    Args:
        settings: the owner's.
        speed: the owner's.
        folders: of the base and, if there is one, of a refiner.
        adapters: files that requests could name.

    Raises:
        ModelUnusable: naming the first setting that a compiled model does not support.
    """
    if len(folders) > 1:
        raise ModelUnusable(
            "a compiled model cannot have a refiner; remove it, or EASEL_REFINER_ID"
        )
    if adapters:
        raise ModelUnusable(
            f"a compiled model cannot apply adapters such as {adapters[0].name}; remove them, and "
            "compile the model with the one that you want"
        )
    for name in _without_effect(settings, speed):
        raise ModelUnusable(f"{name} has no effect on a compiled model; unset it")


def _without_effect(settings: Settings, speed: SpeedSettings) -> Iterator[str]:
    chosen = {
        "EASEL_LORAS": settings.loras is not None,
        "EASEL_LORAS_FROM": settings.loras_from is not None,
        "EASEL_VAE_TILING": settings.vae_tiling,
        "EASEL_DTYPE": settings.dtype != "auto",
        "EASEL_QUANTISE": settings.quantise != "none",
        "EASEL_MERGED_LORA_ID": settings.merged_lora_id is not None,
        "EASEL_COMPILE": speed.compile not in ("auto", "off"),
        "EASEL_STORAGE": speed.storage != "full",
        "EASEL_CHANNELS_LAST": speed.channels_last == "on",
        "EASEL_GUIDANCE_CUTOFF": speed.guidance_cutoff != 1,
    }
    return (name for name, is_chosen in chosen.items() if is_chosen)


def check_defaults(defaults: Defaults, size: tuple[int, int]) -> None:
    """Refuse defaults of another size than the compiled one.

    Raises:
        ModelUnusable: naming the default.
    """
    wanted = {"width": defaults.width, "height": defaults.height}
    for (name, value), pixels in zip(wanted.items(), size, strict=True):
        if value not in (None, pixels):
            raise ModelUnusable(
                f"the default {name} is {value}, and the model is compiled for {pixels}; remove it "
                "from EASEL_DEFAULTS or easel.json"
            )
    if defaults.largest_area is not None and defaults.largest_area < size[0] * size[1]:
        raise ModelUnusable(
            f"the default largest_area is {defaults.largest_area}, and the model is compiled for "
            f"{size[0]} x {size[1]}; remove it from EASEL_DEFAULTS or easel.json"
        )
