"""The gateway's setting for training: EASEL_TRAINING, with what each model takes and costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from endpoint.aws.registry import Image
from endpoint.catalogue import prices, training
from endpoint.catalogue.models import Model
from endpoint.catalogue.training import Trainable
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions
from endpoint.core.problems import BadArgument
from endpoint.provision import backends
from endpoint.provision.files import weights_of_jobs
from endpoint.provision.serving.image import named_image
from endpoint.provision.training import trainer
from endpoint.provision.training.capacity import choose_type

VARIABLE = "EASEL_TRAINING"
PER_MONTH = 20  # jobs of one key


def is_wanted(context: Context, options: DeployOptions) -> bool:
    """Whether the gateway shall offer training: as --training says, else as it does now."""
    if options.training is not None:
        return options.training
    function = context.gateway.function(context.deployment.function) or {}
    return VARIABLE in function.get("Environment", {}).get("Variables", {})


def check(context: Context, options: DeployOptions) -> None:
    """Refuse what cannot be trained before anything is created.

    Raises:
        BadArgument: if no model of the options can be trained.
        QuotaTooSmall: if the account cannot run its instances.
    """
    if not is_wanted(context, options):
        return
    chosen = _trainable(options)
    if not chosen and options.training:
        raise BadArgument(
            "None of these models can be trained.",
            f"These can: {', '.join(training.trainable_models())}.",
        )
    for model, family in chosen:
        choose_type(context, family.instance_types, spot=True)
        if model.source and not weights_of_jobs.are_stored(context.bucket, model):
            context.console.say(
                f"For training, the weights of {model.name}, several GB, are downloaded to this"
                " machine and uploaded to S3 once."
            )
    _image(context, options)


def training_image(context: Context, wanted: str | None) -> Image:
    """Return the training image: a name of the catalogue or a URI; by default AWS's."""
    types = next(iter(training.families().values())).instance_types
    return named_image(wanted or "aws", context.account.region, types[0], "training")


def prepare(context: Context, options: DeployOptions) -> str | None:
    """Store the trainer and the weights; return the setting as JSON, or None without training."""
    if not is_wanted(context, options):
        return None
    deployment = context.deployment
    image = _image(context, options)
    context.begin("training: the trainer and the weights")
    code = trainer.ensure_code(context.bucket)
    entries = {model.name: _entry(context, model, family) for model, family in _trainable(options)}
    before = _before(context)
    kept = before.get("models", {})
    per_month = options.trainings_per_month or before.get("per_month", PER_MONTH)
    return json.dumps(
        {
            "bucket": deployment.bucket,
            "deployment": deployment.name,
            "role": deployment.training_role,
            "image": image.uri,
            "code": code,
            "open": False,
            "per_month": per_month,
            "prodigy": trainer.has_prodigy(),
            "models": {**(kept if isinstance(kept, dict) else {}), **entries},
        },
        separators=(",", ":"),
    )


def _image(context: Context, options: DeployOptions) -> Image:
    """Return the image of the option, or else the deployed one."""
    deployed = _before(context).get("image")
    if options.training_image is None and isinstance(deployed, str):
        return Image.parse(deployed)
    return training_image(context, options.training_image)


def _entry(context: Context, model: Model, family: Trainable) -> dict[str, Any]:
    instance_type = choose_type(context, family.instance_types, spot=True)
    seconds = training.seconds_per_step(family, instance_type)
    return {
        "weights": weights_of_jobs.ensure(context, model),
        "instance_type": instance_type,
        "usd_per_hour": prices.dearest([instance_type]),
        "spot_share": training.spot_share(),
        "seconds_per_step": round(seconds, 3) if seconds else None,
        "start_seconds": training.start_seconds(),
        "resolution": family.resolution,
    }


def _trainable(options: DeployOptions) -> list[tuple[Model, Trainable]]:
    """Return the models of the options that can be trained, with their families."""
    resolved = [backends.resolve(own) for own in options.own_options()]
    # Other containers do not look for adapters that are published while they run.
    return list(_with_family(model for model in resolved if model.backend == backends.EASEL))


def _with_family(resolved: Iterable[Model]) -> Iterable[tuple[Model, Trainable]]:
    for model in resolved:
        try:
            yield model, trainer.family_of(model)
        except BadArgument:
            continue


def _before(context: Context) -> Mapping[str, Any]:
    function = context.gateway.function(context.deployment.function) or {}
    text = function.get("Environment", {}).get("Variables", {}).get(VARIABLE, "{}")
    try:
        setting = json.loads(text)
    except ValueError:
        return {}
    return setting if isinstance(setting, dict) else {}
