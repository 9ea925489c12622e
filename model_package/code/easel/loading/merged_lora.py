"""A LoRA that belongs to the model: merged into its weights when they are loaded.

LoRAs such as SDXL-Lightning's make a model of 30 steps one of 4. They apply to every request, so
they are no adapters that a request names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easel.errors import ModelUnusable, SettingInvalid
from easel.loading import hub
from easel.lora import adapters
from easel.lora.keys import LoraUnusable
from easel.model_folder import files as model_folder
from easel.settings import PREPARED, Settings


def find_merged_lora(model_dir: Path, home: Path, settings: Settings) -> Path | None:
    """Return the file, of the model folder or else of the hub; None without one.

    Args:
        model_dir: the container's model folder.
        home: the model's own folder, if that is another one.
        settings: name a repository and the file in it.

    Raises:
        ModelUnusable: if it cannot be fetched, or if there are several.
    """
    for folder in (model_dir, home):
        paths = model_folder.merged_loras(model_folder.list_files(folder))
        if len(paths) > 1:
            raise ModelUnusable(
                f"{folder / model_folder.MERGED_LORA} has {len(paths)} files, and one LoRA is "
                "merged; keep that one"
            )
        if paths:
            return folder / paths[0]
    if settings.merged_lora_id is None:
        return None
    name = settings.merged_lora_file
    if name is None:
        raise SettingInvalid(
            f"EASEL_MERGED_LORA_ID is {settings.merged_lora_id}, and EASEL_MERGED_LORA_FILE is not "
            "set to a file in it"
        )
    folder = hub.fetch_files(
        settings.merged_lora_id,
        settings.merged_lora_revision,
        [name],
        variables="EASEL_MERGED_LORA",
    )
    if not (folder / name).is_file():
        raise SettingInvalid(
            f"EASEL_MERGED_LORA_FILE is {name}, which {settings.merged_lora_id} does not contain"
        )
    return folder / name


def merge_lora(path: Path, pipelines: Sequence[Any], settings: Settings) -> None:
    """Merge a file into the weights of the pipelines' parts that it fits.

    Raises:
        ModelUnusable: if it does not fit, or if quantised weights cannot be changed.
    """
    if settings.quantise in PREPARED:
        raise SettingInvalid(
            f"EASEL_QUANTISE is {settings.quantise}, and {path.name} cannot be merged into weights "
            "that are quantised; set it to fp8, int8 or none"
        )
    try:
        adapters.merge(path, pipelines)
    except LoraUnusable as error:
        raise ModelUnusable(f"the LoRA {path.name} cannot be merged: {error}") from error
