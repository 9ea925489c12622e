"""A model's weights at a place of their own in the bucket, for jobs that train or compile.

Each version of an endpoint has another place, which also contains its code and a refiner, and is
deleted with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from endpoint.aws.bucket import Bucket
from endpoint.catalogue.models import NONE, Model
from endpoint.cli.context import Context
from endpoint.core.training_jobs import places
from endpoint.provision.files import payload, weights
from endpoint.provision.files.payload import File
from endpoint.provision.files.upload import Upload


def prefix_of(model: Model, files: list[File] | None = None) -> str:
    """Return the prefix of a model's weights, which stands for their content.

    Args:
        model: from the hub, or a local folder.
        files: the folder's; unused for the hub, whose revision stands for the content.

    Raises:
        ValueError: for a folder without its files.
    """
    content: object
    if model.source:
        content = [model.source.name, model.source.revision, model.variant]
    elif files is not None:
        content = [[file.place, file.sha256] for file in files]
    else:
        raise ValueError("the content of a folder is that of its files")
    return places.weights(model.name, digest(content))


def are_stored(bucket: Bucket, model: Model) -> bool:
    """Whether all weights of a model's revision are in the bucket; false for a folder."""
    if model.source is None:
        return False
    return bucket.current(payload.manifest_key(prefix_of(model))) is not None


def ensure(context: Context, model: Model) -> str:
    """Upload a model's weights, unless they are there; return their prefix.

    Raises:
        ScriptError: as `weights.gather`.
    """
    if model.source:
        prefix = prefix_of(model)
        if are_stored(context.bucket, model):
            return prefix
        context.begin(f"weights below s3://{context.bucket.name}/{prefix}")
        if context.dry_run:  # which downloads nothing
            return prefix
    # Neither a refiner is trained or compiled, nor what is merged or quantised.
    plain = replace(model, refiner=None, lora=None, quantise=NONE)
    files = weights.gather(plain, context.console)
    prefix = prefix_of(model, files)
    upload = Upload(context.bucket, context.console, context.clock, pretend=context.dry_run)
    upload.ensure(prefix, files, like=f"models/{model.name}/")
    return prefix


def digest(content: object) -> str:
    """Return 16 hexadecimal digits of the hash of any JSON value."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_digest(files: Sequence[File]) -> str:
    """Return 16 hexadecimal digits of the hash of a program's files and their places."""
    return digest([[file.place, file.sha256] for file in files])
