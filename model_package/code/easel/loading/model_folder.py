"""The files of a diffusers model: its components, and the forms of their weights.

All functions work on relative paths, because they serve folders on disk as well as a repository's
list of files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from easel.errors import ModelUnusable

INDEX = "model_index.json"
VARIANT = "fp16"
# The usual names of files by torch.save, which are Python pickles.
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_SAFE = ".safetensors"


def holds_model(folder: Path) -> bool:
    """Whether the folder contains a diffusers pipeline."""
    return (folder / INDEX).is_file()


def read_index(path: Path) -> dict[str, Any]:
    """Return a `model_index.json`.

    Raises:
        ModelUnusable: if it cannot be read as a JSON object.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"{path} cannot be read: {error}") from error
    if not isinstance(index, dict):
        raise ModelUnusable(f"{path} is not a JSON object")
    return index


def components(index: Mapping[str, Any], without: Collection[str] = ()) -> list[str]:
    """Return the names of the pipeline's components, which are its subfolders' names."""
    # A component is [library, class]; [null, null] is an optional one that the model lacks.
    return [
        name
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[1] and name not in without
    ]


def list_files(folder: Path) -> list[str]:
    """Return the folder's files, as relative POSIX paths."""
    # Sorted, because the order on disk differs between machines.
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def is_variant(path: str) -> bool:
    """Whether a file of weights, or a shard, or their index, is of the fp16 variant."""
    name = PurePosixPath(path).name
    return f".{VARIANT}." in name or f".{VARIANT}-" in name


def is_safe(path: str) -> bool:
    """Whether a path is of weights that load without running code."""
    return path.endswith(_SAFE)


def within(files: Iterable[str], component: str) -> list[str]:
    """Return the paths that are directly in a component's folder."""
    return [path for path in files if PurePosixPath(path).parent.as_posix() == component]


def choose_variant(
    files: Collection[str], names: Iterable[str], *, prefer_variant: bool
) -> str | None:
    """Return the variant to load, or None for the plain files.

    A folder often contains weights twice, in 32 and in 16 bits. Reading the latter takes half the
    time, so they are chosen if the model computes in 16 bits, or if a component has no others.
    """
    any_variant = False
    for name in names:
        weights = [path for path in within(files, name) if is_safe(path)]
        has_variant = any(is_variant(path) for path in weights)
        any_variant = any_variant or has_variant
        # `from_pretrained` takes one variant for all components, so such a component decides.
        if has_variant and all(is_variant(path) for path in weights):
            return VARIANT
    return VARIANT if any_variant and prefer_variant else None


def pickled_only(files: Collection[str], names: Iterable[str]) -> list[str]:
    """Return the components whose weights exist only in forms that can run code on loading."""
    return [
        name
        for name in names
        if any(path.endswith(_PICKLES) for path in within(files, name))
        and not any(is_safe(path) for path in within(files, name))
    ]


def pickle_refusal(names: list[str]) -> str:
    """Return the message that refuses weights which could run code."""
    return (
        f"the weights of {', '.join(names)} exist only pickled, and unpickling can run any code in "
        "them; set EASEL_ALLOW_PICKLE=on if you trust their source"
    )
