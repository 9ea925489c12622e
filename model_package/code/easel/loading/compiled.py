"""A model that was compiled for an accelerator: how it is recognised and loaded.

Only AWS Inferentia2 is supported. Its code is in the package `neuron`, which is next to this one in
the containers that need it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from easel.errors import ModelUnusable
from easel.model_folder.files import FolderUnusable, read_object


def is_compiled(folder: Path) -> bool:
    """Whether a pipeline's folder has compiled programs instead of weights."""
    path = folder / "unet" / "config.json"
    try:
        return path.is_file() and "neuron" in read_object(path)
    except FolderUnusable:
        return False  # the loader of weights says what is wrong with it


def load(folder: Path) -> Any:
    """Return the pipeline of a compiled model, which has `static_size` and `merged_lora`.

    Raises:
        ModelUnusable: if it cannot be loaded here.
    """
    try:
        return importlib.import_module("neuron.pipeline").load(folder)
    except ImportError as error:
        raise ModelUnusable(
            f"{folder} is compiled for Inferentia2, and this container cannot run it ({error}); "
            "serve it in Hugging Face's neuronx image, with the package neuron next to easel"
        ) from error
