"""What a folder of compiled parts was compiled for, and whether this machine can run it.

optimum-neuron writes a block `neuron` into the `config.json` of each part. `neuron.json` adds what
no part can say: the adapter in the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easel.errors import ModelUnusable
from easel.model_folder.files import FolderUnusable, read_object
from generation import InvalidField

from .job import MergedLora

FILE = "neuron.json"
PROGRAM = "model.neuron"
# What an image needs; the encoder of the VAE is for pictures that are made of others.
PARTS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder")
# Inferentia2 and the first Trainium run the same programs.
_SAME = {"inf2": "trn1", "trn1n": "trn1"}


@dataclass(frozen=True)
class Manifest:
    """What a model was compiled for.

    Attributes:
        pipeline: the class in diffusers.
        parts: the names of the compiled parts.
        width: of every picture, in pixels.
        height: likewise.
        compiler: the newest version of neuronx-cc among the parts.
        instance: optimum-neuron's name of the machine.
        lora: the adapter in the weights; None if there is none.
    """

    pipeline: str
    parts: tuple[str, ...]
    width: int
    height: int
    compiler: str
    instance: str
    lora: MergedLora | None


def read_manifest(folder: Path) -> Manifest:
    """Return what a folder was compiled for.

    Raises:
        ModelUnusable: if a part is missing, was not compiled, or was compiled for another machine
            than the others.
    """
    try:
        return _read(folder)
    except FolderUnusable as error:
        raise ModelUnusable(str(error)) from error


def _read(folder: Path) -> Manifest:
    index = read_object(folder / "model_index.json")
    parts = tuple(part for part in PARTS if part == "vae_decoder" or _has(index, part))
    blocks = {part: _block(folder / part) for part in parts}
    for part, block in blocks.items():
        if block.get("instance_type") != blocks["unet"].get("instance_type"):
            raise ModelUnusable(f"{folder / part} was compiled for another machine than the UNet")
    unet = blocks["unet"]
    if unet["static_batch_size"] != 1 or unet.get("dynamic_batch_size"):
        raise ModelUnusable(
            f"{folder} was compiled for several pictures at a time; compile it again"
        )
    scale = unet.get("static_vae_scale_factor", 8)
    versions = [str(block["compiler_version"]) for block in blocks.values()]
    return Manifest(
        pipeline=str(index.get("_class_name")),
        parts=parts,
        width=unet["static_width"] * scale,
        height=unet["static_height"] * scale,
        compiler=max(versions, key=numbers),
        instance=str(unet.get("instance_type")),
        lora=_lora(folder),
    )


def _has(index: Mapping[str, Any], part: str) -> bool:
    names = index.get(part)
    return isinstance(names, list) and bool(names[-1])


def _block(folder: Path) -> dict[str, Any]:
    block = read_object(folder / "config.json").get("neuron")
    if not isinstance(block, dict) or not (folder / PROGRAM).is_file():
        raise ModelUnusable(f"{folder} is not compiled; run the compilation again")
    return block


def _lora(folder: Path) -> MergedLora | None:
    if not (folder / FILE).is_file():  # made by optimum-cli
        return None
    lora = read_object(folder / FILE).get("lora")
    try:
        return None if lora is None else MergedLora.from_dict(lora)
    except InvalidField as error:
        raise ModelUnusable(f"{folder / FILE}: {error}") from error


def check_machine(manifest: Manifest, *, compiler: str, machine: str, cores: int) -> None:
    """Refuse a machine that cannot run the model.

    Args:
        manifest: of the model.
        compiler: the version of neuronx-cc that is installed.
        machine: the family of instances, as optimum-neuron names it.
        cores: the number of cores that this process may use.

    Raises:
        ModelUnusable: saying what to change.
    """
    if cores < 2:
        raise ModelUnusable(
            f"this process has {cores} Neuron cores and needs 2, for the two halves of guidance; "
            "use an ml.inf2 instance, one worker, and no NEURON_RT_NUM_CORES"
        )
    if _SAME.get(manifest.instance, manifest.instance) != _SAME.get(machine, machine):
        raise ModelUnusable(f"the model was compiled for {manifest.instance}, this is {machine}")
    # An older runtime does not know what a newer compiler writes.
    if numbers(manifest.compiler) > numbers(compiler):
        raise ModelUnusable(
            f"the model was compiled by neuronx-cc {manifest.compiler}, and this image has "
            f"{compiler}; compile it again in this image, or serve it in a newer one"
        )


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare it: 2.21.33363.0 of 2.21.33363.0+82129205."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))
