"""The trainer's code and a model's weights in the bucket, where training jobs read them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

from endpoint.aws.bucket import Bucket
from endpoint.catalogue import training
from endpoint.catalogue.models import NONE, Model, Repository
from endpoint.catalogue.training import Trainable
from endpoint.cli.context import Context
from endpoint.core.model_folder.files import INDEX, FolderUnusable, read_object
from endpoint.core.problems import BadArgument
from endpoint.core.training_jobs import places
from endpoint.provision.files import payload, weights
from endpoint.provision.files.payload import File
from endpoint.provision.files.upload import Upload

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
    return places.code(_digest([[file.place, file.sha256] for file in code_files()]))


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
    family = training.families().get(_pipeline(model.folder))
    if family is None:
        raise BadArgument(
            f"{model.folder} contains a {_pipeline(model.folder)}, which cannot be trained.",
            f"These can: {', '.join(training.families())}.",
        )
    return replace(family, resolution=_resolution(model.folder) or family.resolution)


def are_stored(bucket: Bucket, model: Model) -> bool:
    """Whether all weights of a model's revision are in the bucket; false for a folder."""
    if model.source is None:
        return False
    prefix = places.weights(model.name, _digest(_revision(model.source, model.variant)))
    return bucket.current(payload.manifest_key(prefix)) is not None


def _revision(source: Repository, variant: str | None) -> list[str | None]:
    # It stands for the content, which is known only after the download.
    return [source.name, source.revision, variant]


def ensure_weights(context: Context, model: Model) -> str:
    """Upload a model's weights, unless they are there; return their prefix.

    They have a place of their own, because each version of an endpoint has another one, which also
    contains its code and a refiner, and is deleted with it.

    Raises:
        ScriptError: as `weights.gather`.
    """
    content = None
    if model.source:
        content = _revision(model.source, model.variant)
        prefix = places.weights(model.name, _digest(content))
        if are_stored(context.bucket, model):
            return prefix
        context.begin(f"weights below s3://{context.bucket.name}/{prefix}")
        if context.dry_run:  # which downloads nothing
            return prefix
    # Neither a refiner is trained, nor what is merged or quantised.
    plain = replace(model, refiner=None, lora=None, quantise=NONE)
    files = weights.gather(plain, context.console)
    prefix = places.weights(
        model.name, _digest(content or [[file.place, file.sha256] for file in files])
    )
    upload = Upload(context.bucket, context.console, context.clock, pretend=context.dry_run)
    upload.ensure(prefix, files, like=f"models/{model.name}/")
    return prefix


def _pipeline(folder: Path) -> str:
    index = folder / INDEX
    if not index.is_file():
        index = folder / "base" / INDEX
    try:
        return str(read_object(index).get("_class_name", "model without a class"))
    except FolderUnusable as error:
        raise BadArgument(f"{error}.") from error


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


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
