"""The stack for training, next to the deployment's own: roles, pipeline and rules."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from endpoint.aws.registry import Image
from endpoint.catalogue import training
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions
from endpoint.core.problems import ScriptError

TEMPLATE = Path(__file__).parents[2] / "training.yaml"


def ensure(context: Context, image: Image, types: Iterable[str], *, gateway: bool) -> None:
    """Create the stack, or update it; repositories and types of before stay allowed.

    Args:
        context: the deployment.
        image: the training image.
        types: the instance types to train on.
        gateway: whether the deployment has a gateway, which the pipeline needs.
    """
    deployment = context.deployment
    context.begin(f"training: stack {deployment.training_stack}")
    before = context.stacks.parameters(deployment.training_stack)
    repositories = {image.repository_arn(deployment.partition)}
    allowed = {name for family in training.families().values() for name in family.instance_types}
    parameters = {
        "DeploymentName": deployment.name,
        "ImageRepositoryArns": _joined(before.get("ImageRepositoryArns", ""), repositories),
        "InstanceTypes": _joined(before.get("InstanceTypes", ""), allowed | set(types)),
        "WithGateway": "yes" if gateway else before.get("WithGateway", "no"),
    }
    context.stacks.ensure(
        deployment.training_stack, TEMPLATE.read_text("utf-8"), parameters, deployment.tags
    )


def update(context: Context, options: DeployOptions, setting: str | None) -> None:
    """Create or update the stack of a gateway with training; delete it with --no-training.

    Args:
        context: the deployment.
        options: the command's.
        setting: the gateway's setting for training; None without training.
    """
    if setting is not None:
        image = Image.parse(json.loads(setting)["image"])
        types = [one["instance_type"] for one in json.loads(setting)["models"].values()]
        ensure(context, image, types, gateway=True)
    elif options.training is False and exists(context):
        context.begin(f"training: stack {context.deployment.training_stack} is deleted")
        context.stacks.delete(context.deployment.training_stack)


def exists(context: Context) -> bool:
    """Whether the deployment has the stack."""
    return context.stacks.find(context.deployment.training_stack) is not None


def require_deployment(context: Context) -> None:
    """Raise ScriptError if the deployment itself, whose bucket training uses, does not exist."""
    if context.dry_run:
        return
    if context.stacks.find(context.deployment.stack) is None:
        raise ScriptError(
            f"There is no deployment {context.name} in {context.account.region}.",
            "Create one first: `python -m endpoint deploy --training`, or `python -m endpoint"
            " create` for an endpoint without a gateway.",
        )


def _joined(before: str, more: set[str]) -> str:
    return ",".join(sorted({*filter(None, before.split(",")), *more}))
