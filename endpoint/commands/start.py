"""Restore stopped endpoints, from the endpoint configurations that `stop` kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from endpoint.aws.logs import group_of
from endpoint.aws.models import instance_types, is_asynchronous
from endpoint.catalogue import prices
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import StartOptions, add_lease_option, add_model_option, common_parser
from endpoint.cli.script import Result
from endpoint.core.leases import Lease
from endpoint.core.naming import TAG
from endpoint.core.problems import ScriptError
from endpoint.provision import backends
from endpoint.provision.self_description import store_description
from endpoint.provision.serving import capacity, in_service, lease, own_image
from endpoint.provision.serving.warm_up import warm_up


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("start", "Create stopped endpoints again.")
    add_model_option(parser)
    add_lease_option(parser)
    return parser


def start(context: Context, options: StartOptions) -> Result:
    """Create the endpoints again, one after the other; those in service are left as they are."""
    newest = context.newest_configs()
    if options.model is not None:
        newest = {model: name for model, name in newest.items() if model == options.model}
    if not newest:
        raise ScriptError(
            "There is nothing to start.", "`python -m endpoint create` creates an endpoint."
        )
    in_service.repair_scaling(context)
    running = [model for model in newest if _is_in_service(context, model)]
    already = [f"Already in service: {', '.join(running)}."] if running else []
    if options.lease is not None:
        for model in running:
            name = context.deployment.endpoint(model)
            found = context.endpoints.find(name) or {}
            lease.ensure(context, name, found["EndpointConfigName"], options.lease)
    newest = {model: name for model, name in newest.items() if model not in running}
    if not newest:
        return Result({"started": [], "usd_per_hour_at_most": 0.0}, already)
    configs = {name: context.models.find_config(name) or {} for name in newest.values()}
    for config in configs.values():
        _require_image(context, config)
    endpoint = context.deployment.endpoint
    capacity.require_room(
        context, {endpoint(m): tuple(instance_types(configs[name])) for m, name in newest.items()}
    )
    # A type with an unknown price adds nothing, so the sum can be too low.
    price = sum(prices.dearest(instance_types(config)) or 0.0 for config in configs.values())
    models = ", ".join(newest)
    context.console.ask(f"Start {models} for at most {prices.in_words(price)}?")
    for model, name in newest.items():
        _start(context, model, name, configs[name], options.lease)
    lines = [f"Started: {models}, for at most {prices.in_words(price)}.", *already]
    return Result({"started": list(newest), "usd_per_hour_at_most": price}, lines)


def _require_image(context: Context, config: dict[str, Any]) -> None:
    for variant in config.get("ProductionVariants", []):
        model = context.models.find_model(variant["ModelName"])
        if model:
            own_image.require_stored(context, model["PrimaryContainer"]["Image"])


def _start(
    context: Context, model: str, name: str, config: dict[str, Any], length: Lease | None
) -> None:
    endpoint = context.deployment.endpoint(model)
    context.begin(f"endpoint {endpoint}")
    context.logs.ensure(group_of(endpoint), {TAG: context.name})
    # Another run may be creating or updating it: its version stays.
    found = context.endpoints.updatable(endpoint)
    name = found["EndpointConfigName"] if found else name
    tags = context.deployment.tags
    in_service.bring_into_service(context, endpoint, name, tags, lease=length)
    context.begin("warm-up: a first picture")
    served = backends.of_endpoint(context, endpoint, context.models.find_config(name) or config)
    warm_up(context, endpoint, served, asynchronous=is_asynchronous(config))
    # Again: on another machine, the sizes of its batches can differ.
    if served.backend.name == backends.EASEL:
        store_description(context, endpoint)


def _is_in_service(context: Context, model: str) -> bool:
    description = context.endpoints.find(context.deployment.endpoint(model))
    return description is not None and description["EndpointStatus"] == "InService"


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), StartOptions, start, argv, **overrides)
