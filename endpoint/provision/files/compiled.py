"""Compiled models in the deployment's bucket: which there are, and which one an endpoint serves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from endpoint.aws.bucket import Bucket
from endpoint.catalogue import models
from endpoint.catalogue.models import Model
from endpoint.cli.context import Context
from endpoint.core import compiled_models
from endpoint.core.compiled_models import Compiled
from endpoint.core.generation import adapter_files
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.provision.files import payload, weights, weights_of_jobs
from endpoint.provision.files.payload import File

_PACKAGE = payload.CODE.parent / "neuron"


def code_files() -> list[File]:
    """Return the files of the package `neuron`, which compiles, and runs what is compiled."""
    return [
        File.read(path, f"neuron/{path.relative_to(_PACKAGE).as_posix()}")
        for path in sorted(_PACKAGE.rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def every(bucket: Bucket, model: str = "") -> list[Compiled]:
    """Return the complete compilations, the newest first.

    Args:
        bucket: the deployment's.
        model: only those of this model.
    """
    keys = [key for key in bucket.sizes(compiled_models.of_model(model)) if
            compiled_models.is_record(key)]  # fmt: skip
    return sorted(_read(bucket, keys), key=lambda one: -one.created)


def _read(bucket: Bucket, keys: list[str]) -> Iterator[Compiled]:
    for key in keys:
        try:
            yield Compiled.from_json(bucket.get(key) or b"")
        except ValueError:  # of another version, or damaged
            continue


def weights_prefix(context: Context, model: Model) -> str:
    """Return the prefix of the weights that a compilation of a model must have begun with."""
    # Reading all of a folder is what its upload would do.
    plain = replace(model, refiner=None)
    files = None if model.source else weights.gather(plain, context.console)
    return weights_of_jobs.prefix_of(plain, files)


def adapter(bucket: Bucket, model: str, name: str) -> tuple[bytes, str] | None:
    """Return the content of a model's adapter, and its SHA-256; None if there is none."""
    prefix = payload.adapters_prefix(model)
    files = adapter_files(key.removeprefix(prefix) for key in bucket.sizes(prefix))
    body = bucket.get(f"{prefix}{files[name]}") if name in files else None
    return None if body is None else (body, hashlib.sha256(body).hexdigest())


def selection(lora: tuple[str, float] | None, size: tuple[int, int] | None, deployment: str) -> str:
    """Return the options that select a compilation, for a command that a message names."""
    text = f" --size {size[0]}x{size[1]}" if size else ""
    if lora:
        text += f" --lora {lora[0]}" + ("" if lora[1] == 1.0 else f":{lora[1]:g}")
    return text if deployment == "main" else f"{text} --name {deployment}"


def command(
    model: Model, lora: tuple[str, float] | None, size: tuple[int, int], deployment: str
) -> str:
    """Return the command that compiles a model."""
    # A folder can have the name of a model in the catalogue.
    listed = model.source is not None and models.find(model.name) is not None
    text = f"python -m endpoint compile --model {model.name if listed else model.repository}"
    return text + selection(lora, size, deployment)


def choose(
    context: Context,
    model: Model,
    lora: tuple[str, float] | None,
    size: tuple[int, int] | None,
    usual: tuple[int, int],
) -> Compiled:
    """Return the compilation to serve: of these weights, this adapter and this size.

    Args:
        context: the deployment.
        model: to serve.
        lora: the name and weight of the merged adapter; None for none.
        size: of the pictures; None for `usual`, or for the only one that is compiled.
        usual: the model's own size.

    Raises:
        ScriptError: if there is none; names the command that makes it.
    """
    prefix = weights_prefix(context, model)
    there = [one for one in every(context.bucket, model.name) if one.target.weights == prefix]
    chosen = [one for one in there if _adapter_of(one) == lora]
    sizes = {(one.target.width, one.target.height) for one in chosen}
    wanted = size or (next(iter(sizes)) if len(sizes) == 1 else usual)
    chosen = [one for one in chosen if (one.target.width, one.target.height) == wanted]
    compile_it = f"`{command(model, lora, wanted, context.name)}`"
    if not chosen:
        others = ", ".join(one.target.title for one in there) or "nothing of this model"
        what = model.name if lora is None else f"{model.name} with {lora[0]}"
        raise ScriptError(
            f"{what} is not compiled at {wanted[0]} x {wanted[1]}; compiled are: {others}.",
            f"Compile it first, once: {compile_it}.",
        )
    if lora is None:
        return chosen[0]
    current = adapter(context.bucket, model.name, lora[0])
    # Without the adapter itself, what was compiled of it stays usable.
    same = [one for one in chosen if current is None or one.target.lora_content == current[1]]
    if not same:
        raise BadArgument(
            f"The adapter {lora[0]} is not the one that was compiled: it has changed since.",
            f"Compile it again: {compile_it}.",
        )
    return same[0]


def _adapter_of(compiled: Compiled) -> tuple[str, float] | None:
    target = compiled.target
    return (target.lora, target.lora_weight) if target.lora else None


def in_words(bucket: Bucket) -> list[str]:
    """Return the compiled models that the bucket's deletion deletes, as lines of text."""
    lines = [
        f"  {one.target.title}, {one.size / 1e9:.2f} GB: s3://{bucket.name}/{one.root}"
        for one in every(bucket)
    ]
    head = "With the bucket, these compiled models, which a job of up to hours makes again:"
    return [head, *lines] if lines else []
