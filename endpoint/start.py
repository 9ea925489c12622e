"""Bring stopped endpoints back, from the configurations that `stop` kept."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as `python endpoint/start.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.aws.logs import group_of
from endpoint.aws.models import instance_types
from endpoint.catalogue import prices
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.script import Result
from endpoint.core.naming import TAG
from endpoint.core.problems import BadArgument
from endpoint.create_endpoint import TAG_MOST, bring_into_service
from endpoint.provision.warm_up import warm_up


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("start", "Make stopped endpoints again.")
    parsed.add_argument("--model", help="only this one's (default: all of the deployment's)")
    return parsed


def start(context: Context, args: argparse.Namespace) -> Result:
    """Make the endpoints again, one after the other."""
    configs = newest_configs(context, args.model)
    if not configs:
        raise BadArgument("There is nothing to start.", "`create_endpoint` makes an endpoint.")
    found = {name: context.models.find_config(name) or {} for name in configs.values()}
    price = sum(prices.dearest(instance_types(config)) or 0.0 for config in found.values())
    context.console.ask(f"Start {', '.join(configs)} for at most {prices.in_words(price)}?")
    for model, name in configs.items():
        _start(context, model, name, found[name])
    lines = [f"Started: {', '.join(configs)}, for at most {prices.in_words(price)}."]
    return Result({"started": list(configs), "usd_per_hour_at_most": price}, lines)


def _start(context: Context, model: str, name: str, config: dict[str, Any]) -> None:
    endpoint = context.deployment.endpoint(model)
    asynchronous = bool(config.get("AsyncInferenceConfig"))
    context.begin(f"endpoint {endpoint}")
    context.logs.ensure(group_of(endpoint), {TAG: context.name})
    bring_into_service(context, endpoint, name, context.deployment.tags)
    if asynchronous:
        most = int(context.models.tags(config["EndpointConfigArn"]).get(TAG_MOST, "1"))
        context.begin(f"scaling from 0 to {most} instances")
        context.scaling.ensure(endpoint, most, context.name)
    context.begin("warm-up: a first picture")
    warm_up(context, endpoint, asynchronous=asynchronous)


def newest_configs(context: Context, model: str | None) -> dict[str, str]:
    """Return the newest endpoint configuration of each model, by the model's name."""
    prefix = f"{context.deployment.prefix}-"
    newest: dict[str, str] = {}
    for item in context.models.configs(prefix):
        name = item["EndpointConfigName"]
        found = re.fullmatch(rf"{re.escape(prefix)}(.+)-[0-9a-f]{{8}}", name)
        if found and (model is None or model == found[1]):
            newest.setdefault(found[1], name)
    return newest


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), start, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
