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
from endpoint.cli.context import Life
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


def start(life: Life, args: argparse.Namespace) -> Result:
    """Make the endpoints again, one after the other."""
    configs = newest_configs(life, args.model)
    if not configs:
        raise BadArgument("There is nothing to start.", "`create_endpoint` makes an endpoint.")
    found = {name: life.models.find_config(name) or {} for name in configs.values()}
    price = sum(prices.dearest(instance_types(config)) or 0.0 for config in found.values())
    life.console.ask(f"Start {', '.join(configs)} for at most {prices.in_words(price)}?")
    for model, name in configs.items():
        _start(life, model, name, found[name])
    lines = [f"Started: {', '.join(configs)}, for at most {prices.in_words(price)}."]
    return Result({"started": list(configs), "usd_per_hour_at_most": price}, lines)


def _start(life: Life, model: str, name: str, config: dict[str, Any]) -> None:
    endpoint = life.deployment.endpoint(model)
    asynchronous = bool(config.get("AsyncInferenceConfig"))
    life.begin(f"endpoint {endpoint}")
    life.logs.ensure(group_of(endpoint), {TAG: life.name})
    bring_into_service(life, endpoint, name, life.deployment.tags)
    if asynchronous:
        most = int(life.models.tags(config["EndpointConfigArn"]).get(TAG_MOST, "1"))
        life.begin(f"scaling from 0 to {most} instances")
        life.scaling.ensure(endpoint, most, life.name)
    life.begin("warm-up: a first picture")
    warm_up(life, endpoint, asynchronous=asynchronous)


def newest_configs(life: Life, model: str | None) -> dict[str, str]:
    """Return the newest endpoint configuration of each model, by the model's name."""
    prefix = f"{life.deployment.prefix}-"
    newest: dict[str, str] = {}
    for item in life.models.configs(prefix):
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
