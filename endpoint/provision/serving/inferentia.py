"""Serving a compiled model on Inferentia2, instead of weights on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from endpoint.catalogue import inferentia, prices
from endpoint.catalogue.inferentia import Compilable
from endpoint.catalogue.models import NONE, Model
from endpoint.cli.context import Context
from endpoint.cli.options import EndpointOptions
from endpoint.core.compiled_models import Compiled
from endpoint.core.problems import BadArgument
from endpoint.provision.backends import folder_defaults
from endpoint.provision.files import compiled, payload, weights
from endpoint.provision.files.payload import File


def is_served_on(types: Sequence[str]) -> bool:
    """Whether these instance types have Inferentia2 and no GPU.

    Raises:
        BadArgument: if some have one and some the other: one image cannot serve both.
    """
    have = {prices.is_inferentia(name) for name in types}
    if len(have) > 1:
        raise BadArgument(
            f"{', '.join(types)}: Inferentia2 and GPUs need different images and files.",
            "Pass --instance-type for one kind only.",
        )
    return have == {True}


def family_of(model: Model) -> Compilable:
    """Return the family of a model that can be compiled.

    Raises:
        BadArgument: if it cannot.
    """
    known = inferentia.of_model(model.name) if model.source else None
    if known is None and model.folder is not None:
        known = inferentia.families().get(weights.pipeline_of(model.folder))
    if known is None:
        names = ", ".join(name for one in inferentia.families().values() for name in one.models)
        raise BadArgument(
            f"{model.repository} cannot be compiled for Inferentia2.",
            f"Of the catalogue, these can: {names}; and folders with a model of these kinds.",
        )
    return known


def usual_size(model: Model) -> tuple[int, int]:
    """Return the width and height of a model's pictures, in pixels.

    Raises:
        BadArgument: if it cannot be compiled, or its easel.json cannot be read.
    """
    side = family_of(model).size
    own = {**folder_defaults(model.folder), **model.defaults}
    return int(own.get("width", side)), int(own.get("height", side))


def check(model: Model, options: EndpointOptions) -> Model:
    """Return a model as it is served on the options' types, if these have Inferentia2.

    Raises:
        BadArgument: if an option has an unusable value there, or is only for there.
    """
    types = options.instance_type or model.instance_types
    if not is_served_on(types):
        for option, value in (("--lora", options.lora), ("--size", options.size)):
            if value is not None:
                raise BadArgument(
                    f"{option} is for compiled models on ml.inf2 instances: on a GPU, each request"
                    " chooses it.",
                    "Leave it out, or add --instance-type ml.inf2.xlarge.",
                )
        return model
    family = family_of(model)
    for name in types:
        if not family.serves_on(name):
            ram = prices.instance_types()[name].ram_gib
            raise BadArgument(
                f"{model.name} does not load on {name}: it has {ram} GiB of main memory, and"
                f" loading the compiled model takes more ({family.host_gib} GiB are safe).",
                f"Choose --instance-type {family.serving_types()[0]}.",
            )
    if model.quantise != NONE:
        raise BadArgument(
            f"--quantise {model.quantise} has no effect on a compiled model.", "Leave it out."
        )
    if options.weights == "fetch":
        raise BadArgument(
            "On Inferentia2, the compiled model is in the bucket; there is nothing to fetch.",
            "Leave out --weights.",
        )
    # Base and refiner together need the memory of more than one accelerator. The data type was
    # chosen when it was compiled.
    return replace(model, refiner=None, dtype="auto")


def chosen(context: Context, model: Model, options: EndpointOptions) -> Compiled | None:
    """Return the compilation that an endpoint will serve; None on GPUs.

    Raises:
        ScriptError: if it is not there; names the command that makes it.
    """
    if not is_served_on(options.instance_type or model.instance_types):
        return None
    return compiled.choose(context, model, options.lora, options.size, usual_size(model))


def with_size(model: Model, chosen: Compiled) -> Model:
    """Return the model with the only size that was compiled as its own."""
    size = {"width": chosen.target.width, "height": chosen.target.height}
    return replace(model, defaults={**model.defaults, **size})


def code_files() -> list[File]:
    """Return what the serving code needs besides `payload.code_files`."""
    return [replace(file, place=f"code/{file.place}") for file in compiled.code_files()]


def ensure_files(context: Context, prefix: str, chosen: Compiled) -> None:
    """Copy the compiled model to an endpoint's files, inside S3."""
    stored = context.bucket.sizes(prefix)
    missing = [
        name for name, size in sorted(chosen.files.items()) if stored.get(prefix + name) != size
    ]
    context.console.say(
        f"  {chosen.target.title}: {len(missing)} files, {chosen.size / 1e9:.2f} GB, copied inside"
        " S3"
    )
    if context.dry_run:
        return
    for name in missing:
        context.bucket.copy(chosen.root + name, prefix + name)
    # Last, because it states that the prefix is complete. Uploads look there for files that
    # they need not send again, by their content, which is not known of these.
    context.bucket.put(payload.manifest_key(prefix), b"{}")
