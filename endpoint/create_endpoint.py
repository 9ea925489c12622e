"""Create a model's endpoint, or bring it to what the options say; the story from top to bottom.

    infrastructure   the stack: bucket, roles, dashboard, and a private network if wanted
    files            the serving code into the bucket, and the weights with --weights s3
    model            SageMaker's name for image, files and environment
    configuration    the instance types, tried one after the other
    endpoint         an instance starts: from here on it costs money by the hour
    scaling          an asynchronous endpoint goes to zero instances when it has nothing to do
    warm-up          a real picture, because a container's health check says little

Every step finds what is there already, so the same command continues after any interruption.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:  # run as `python endpoint/create_endpoint.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.aws.logs import group_of
from endpoint.aws.quotas import raise_call
from endpoint.aws.registry import Image
from endpoint.catalogue import models as catalogue
from endpoint.catalogue import prices
from endpoint.catalogue.models import Model
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.script import Result
from endpoint.core.naming import TAG
from endpoint.core.problems import BadArgument, EndpointFailed, QuotaTooSmall
from endpoint.provision import payload
from endpoint.provision import weights as weight_files
from endpoint.provision.definitions import Serving
from endpoint.provision.image import choose_image
from endpoint.provision.upload import Upload
from endpoint.provision.warm_up import warm_up

TEMPLATE = Path(__file__).with_name("infrastructure.yaml")
# Kept with the configuration, so that `start` can scale an endpoint as `create` did.
TAG_MOST = "easel-most-instances"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("create_endpoint", "Create a model's endpoint, or update it.")
    add_options(parsed)
    return parsed


def add_options(parsed: argparse.ArgumentParser) -> None:
    """Add the options that a deployment has as well."""
    add = parsed.add_argument
    add("--model", default="sd", help="name in the catalogue, org/name on the hub, or a folder")
    add("--revision", help="commit, tag or branch of a hub repository")
    whence = "the container fetches the weights (default), or they are uploaded from here"
    add("--weights", choices=["fetch", "s3"], default="fetch", help=whence)
    add("--instance-type", action="append", help="may be repeated: tried in this order")
    add("--most-instances", type=int, default=1, help="of an asynchronous endpoint (default: 1)")
    add("--image", help="URI of the serving image in ECR")
    add("--inference-ami", help="SageMaker's InferenceAmiVersion, for images with CUDA 12.9 on")
    add("--private-network", action="store_true", help="no internet for the container")
    add("--budget", type=float, default=0, help="USD per month of SageMaker, to be warned at")
    add("--email", default="", help="whom to warn")
    add("--log-prompts", action="store_true", help="let the container log prompts")


def create(context: Context, args: argparse.Namespace) -> Result:
    """Create or update one model's endpoint and return what it is and costs."""
    model = catalogue.resolve(args.model, args.revision)
    _check_options(model, args)
    types = affordable_types(context, tuple(args.instance_type or model.instance_types))
    image = choose_image(args.image, context.account.region, types[0])
    _agree(context, model, types)

    ensure_infrastructure(context, image, types, args)
    serving = ensure_files(context, model, image, types, args)

    deployment, tags = context.deployment, context.deployment.tags
    endpoint = deployment.endpoint(model.name)
    definition = serving.model(model)
    model_name = deployment.versioned(model.name, definition)
    context.begin(f"model {model_name}")
    context.models.ensure_model(model_name, definition, tags)

    definition = serving.config(model, model_name)
    most = {"Key": TAG_MOST, "Value": str(args.most_instances)}
    config = deployment.versioned(model.name, [definition, most])
    context.begin(f"endpoint configuration {config}")
    context.models.ensure_config(config, definition, [*tags, most])

    context.begin(f"endpoint {endpoint}: {prices.in_words(prices.dearest(types))} at most")
    context.logs.ensure(group_of(endpoint), {TAG: deployment.name})
    if model.asynchronous and context.endpoints.has_other_config(endpoint, config):
        # SageMaker refuses to change the instances of an endpoint that is being scaled.
        context.scaling.remove(endpoint)
    bring_into_service(context, endpoint, config, tags)

    if model.asynchronous:
        context.begin(f"scaling from 0 to {args.most_instances} instances")
        context.scaling.ensure(endpoint, args.most_instances, deployment.name)

    context.begin("warm-up: a first picture")
    seconds = warm_up(context, endpoint, asynchronous=model.asynchronous)

    remove_superseded(
        context, model.name, keep=[model_name, config], prefix=_prefix(serving, context)
    )
    return _result(model, endpoint, types, seconds)


def _check_options(model: Model, args: argparse.Namespace) -> None:
    if args.weights == "fetch" and model.folder:
        raise BadArgument("A folder of yours has to be uploaded.", "Add --weights s3.")
    if args.weights == "fetch" and args.private_network:
        raise BadArgument("A container without internet cannot fetch.", "Add --weights s3.")
    if args.weights == "fetch" and model.gated:
        raise BadArgument(
            f"{model.repository} is gated, and a token does not belong into a model's settings.",
            "Accept its terms, set HF_TOKEN here, and add --weights s3.",
        )
    if args.most_instances < 1:
        raise BadArgument("--most-instances is 1 or more.")
    if args.budget and not args.email:
        raise BadArgument("A budget warns somebody.", "Add --email.")


def affordable_types(context: Context, types: tuple[str, ...]) -> tuple[str, ...]:
    """Return the instance types that the account's quotas allow.

    Raises:
        QuotaTooSmall: if they allow none.
    """
    quotas = context.quotas.read(types)
    if quotas is None:
        context.console.say(
            "Quotas may not be read (servicequotas:ListServiceQuotas): not checked."
        )
        return types
    allowed = tuple(name for name in types if quotas.get(name, (1.0, ""))[0] >= 1)
    if allowed:
        return allowed
    calls = [raise_call(quotas[name][1], context.account.region) for name in types]
    raise QuotaTooSmall(
        f"This account may have no instance of {', '.join(types)} for endpoints (the quota is 0).",
        "Ask for one, which takes from minutes to days:\n  " + "\n  ".join(calls)
        + "\nor take a type that you have a quota for with --instance-type.",
    )  # fmt: skip


def _agree(context: Context, model: Model, types: tuple[str, ...]) -> None:
    words = prices.in_words(prices.dearest(types))
    rest = ", and nothing by the hour while nobody asks for pictures" if model.asynchronous else ""
    context.console.say(f"{model.title} ({model.repository}); licence: {model.licence}.")
    context.console.say(f"On {' or '.join(types)}: at most {words}{rest}. {prices.provenance()}")
    context.console.ask(
        f"Create {context.deployment.endpoint(model.name)} in {context.account.region}?"
    )


def ensure_infrastructure(
    context: Context, image: Image, types: tuple[str, ...], args: argparse.Namespace
) -> None:
    """Make the stack, or update it to the template and the options."""
    deployment = context.deployment
    context.begin(f"infrastructure: stack {deployment.stack}")
    before = context.stacks.parameters(deployment.stack)
    dearest = max(float(before.get("HourlyPrice", 0)), prices.dearest(types) or 0)
    parameters = {
        "DeploymentName": deployment.name,
        "ImageRepositoryArn": image.repository_arn(deployment.partition),
        "HourlyPrice": f"{dearest:g}",
        "PrivateNetwork": "yes" if args.private_network else before.get("PrivateNetwork", "no"),
        "MonthlyBudget": f"{args.budget:g}" if args.budget else before.get("MonthlyBudget", "0"),
        "AlarmEmail": args.email or before.get("AlarmEmail", ""),
    }
    template = TEMPLATE.read_text("utf-8")
    context.stacks.ensure(deployment.stack, template, parameters, deployment.tags)


def ensure_files(
    context: Context, model: Model, image: Image, types: tuple[str, ...], args: argparse.Namespace
) -> Serving:
    """Bring code and weights into the bucket; return how the model is to be served with them."""
    code = payload.code_files()
    weights = weight_files.gather(model, context.console) if args.weights == "s3" else []
    prefix = payload.prefix_of(model.name, code + weights)
    place = f"s3://{context.deployment.bucket}/{prefix}"
    context.begin(f"files below {place}")
    payload.ensure_code(context.bucket, prefix, code)
    if weights:
        Upload(context.bucket, context.console, context.clock, pretend=context.dry_run).ensure(
            prefix, weights
        )
    serving = Serving(
        image=image.uri,
        role=context.deployment.endpoint_role,
        data=place,
        weights_in_s3=bool(weights),
        instance_types=types,
        output=f"s3://{context.deployment.bucket}/jobs/",
        inference_ami=args.inference_ami,
        log_prompts=args.log_prompts,
    )
    return _with_network(context, serving, args)


def _with_network(context: Context, serving: Serving, args: argparse.Namespace) -> Serving:
    if not args.private_network or context.dry_run:
        return serving
    outputs = context.stacks.outputs(context.deployment.stack)
    return replace(
        serving,
        subnets=tuple(outputs["SubnetIds"].split(",")),
        security_group=outputs["SecurityGroupId"],
    )


def bring_into_service(
    context: Context, endpoint: str, config: str, tags: list[dict[str, str]]
) -> None:
    """Wait until the endpoint serves with this configuration; show its log if it fails."""
    since = int(context.clock.now().timestamp() * 1000)
    try:
        context.endpoints.ensure(endpoint, config, tags)
    except EndpointFailed:
        for line in context.logs.trouble(group_of(endpoint), since):
            context.console.say(f"  log: {line}")
        raise


def _prefix(serving: Serving, context: Context) -> str:
    return serving.data.removeprefix(f"s3://{context.deployment.bucket}/")


def remove_superseded(context: Context, model: str, keep: list[str], prefix: str) -> None:
    """Delete the versions that this one replaces: configurations, models, files."""
    deployment = context.deployment
    mine = deployment.endpoint(model)
    configs = [item["EndpointConfigName"] for item in context.models.configs(mine)]
    models = [item["ModelName"] for item in context.models.models(mine)]
    for name in configs:
        if deployment.is_version_of(name, model) and name not in keep:
            context.models.delete_config(name)
    for name in models:
        if deployment.is_version_of(name, model) and name not in keep:
            context.models.delete_model(name)
    context.bucket.delete(payload.superseded(context.bucket, model, prefix))


def _result(model: Model, endpoint: str, types: tuple[str, ...], seconds: float | None) -> Result:
    price = prices.dearest(types)
    data: dict[str, Any] = {
        "endpoint": endpoint,
        "model": model.name,
        "asynchronous": model.asynchronous,
        "instance_types": list(types),
        "usd_per_hour_at_most": price,
        "warm_up_seconds": seconds,
    }
    lines = [
        f"{endpoint} serves {model.title}.",
        f"It costs at most {prices.in_words(price)}. `stop` ends that, `start` brings it back.",
    ]
    if model.asynchronous:
        lines.append("It goes to zero instances about 15 minutes after its last picture.")
    return Result(data, lines)


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), create, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
