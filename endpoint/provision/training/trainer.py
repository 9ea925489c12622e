"""The trainer's code in the bucket, where training jobs read it, and what it can train."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

from endpoint.aws.bucket import Bucket
from endpoint.catalogue import training
from endpoint.catalogue.models import Model
from endpoint.catalogue.training import Trainable
from endpoint.core.problems import BadArgument
from endpoint.core.training_jobs import places
from endpoint.provision.files import payload, weights
from endpoint.provision.files.payload import File
from endpoint.provision.files.weights_of_jobs import code_digest

_PACKAGE = Path(__file__).parents[3] / "model_package"
_PRODIGY = "prodigyopt"


def code_files() -> list[File]:
    """Return the files of the trainer: the package `training`, and what it needs next to it.

    That is `generation.py`, and the package of the optimizer Prodigy where it is installed here.
    """
    files = [
        File.read(path, f"training/{path.name}")
        for path in sorted((_PACKAGE / "training").glob("*.py"))
    ]
    files.append(File.read(_PACKAGE / "code" / "generation.py", "generation.py"))
    folder = _prodigy()
    if folder is not None:
        files += [
            File.read(path, f"{_PRODIGY}/{path.name}") for path in sorted(folder.glob("*.py"))
        ]
    return files


def has_prodigy() -> bool:
    """Whether the trainer will have the optimizer Prodigy."""
    return _prodigy() is not None


def _prodigy() -> Path | None:
    """Return the folder of Prodigy's package, a few files of Python, if it is installed here."""
    spec = importlib.util.find_spec(_PRODIGY)
    return Path(spec.origin).parent if spec and spec.origin else None


def code_prefix() -> str:
    """Return the prefix of exactly these files."""
    return places.code(code_digest(code_files()))


def ensure_code(bucket: Bucket) -> str:
    """Upload the trainer, unless it is there; return its prefix."""
    files, prefix = code_files(), code_prefix()
    payload.ensure_code(bucket, prefix, files)
    return prefix


def family_of(model: Model) -> Trainable:
    """Return the family of a model: the catalogue's, or what a folder's files say.

    Raises:
        BadArgument: if the model cannot be trained, or nothing says what it is.
    """
    known = training.of_model(model.name) if model.source else None
    if known:
        return known
    names = ", ".join(training.trainable_models())
    if model.folder is None:
        raise BadArgument(
            f"{model.name} cannot be trained.",
            f"Of the catalogue, these can: {names}; or pass a folder with a model in diffusers'"
            " format.",
        )
    pipeline = weights.pipeline_of(model.folder)
    family = training.families().get(pipeline)
    if family is None:
        raise BadArgument(
            f"{model.folder} contains a {pipeline}, which cannot be trained.",
            f"These can: {', '.join(training.families())}.",
        )
    return replace(family, resolution=_resolution(model.folder) or family.resolution)


def _resolution(folder: Path) -> int | None:
    """Return the side of a model's pictures, from its UNet and VAE."""
    for base in (folder, folder / "base"):
        try:
            latent = json.loads((base / "unet" / "config.json").read_text("utf-8"))["sample_size"]
            vae = json.loads((base / "vae" / "config.json").read_text("utf-8"))
            return int(int(latent) * 2 ** (len(vae["block_out_channels"]) - 1))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
