"""Everything from nothing to a public URL.

    doctor       finds what would stop it
    endpoint     as create_endpoint makes it
    gateway      the Lambda function and API Gateway, by chalice
    throttling   so many requests per second, and no more: every picture costs
    smoke test   the gateway's health, and one picture, through the public URL

The same command continues after any interruption, and updates what is there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:  # run as `python endpoint/deploy.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from botocore.exceptions import ClientError

from endpoint import create_endpoint
from endpoint.catalogue import models as catalogue
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.script import Result
from endpoint.core.naming import TAG
from endpoint.core.problems import AGAIN, ScriptError
from endpoint.doctor import examine
from endpoint.provision.gateway_access import access_of
from endpoint.provision.gateway_access import add_options as add_access_options
from endpoint.provision.gateway_project import GatewayProject, GatewaySettings, OfferedModel, url_of
from endpoint.provision.model_metadata import read_metadata

# Takes `key` as well, where keys are needed.
Visit = Callable[..., bytes]
_PNG = b"\x89PNG\r\n\x1a\n"
_CHALICE_SECONDS = 900
_FIRST_ANSWER_SECONDS = 180  # a new API answers after some seconds, a picture within 29
# Lambda keeps at least this much for functions without a reservation; new accounts have 10 in all.
_UNRESERVED = 100


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("deploy", "Deploy a model and the public URL in front of it.")
    create_endpoint.add_options(parsed)
    add = parsed.add_argument
    add("--also", action="append", default=[], metavar="MODEL", help="a further model; repeatable")
    add("--requests-per-second", type=float, default=2, help="for all visitors (default: 2)")
    add("--burst", type=int, default=5, help="requests at once (default: 5)")
    add("--concurrency", type=int, default=10, help="functions running at once; 0 for no limit")
    add_access_options(parsed)
    return parsed


def deploy(context: Context, args: argparse.Namespace, visit: Visit) -> Result:
    """Deploy, and return the URL."""
    wanted = [args.model, *args.also]
    for model in wanted:
        given = argparse.Namespace(**{**vars(args), "model": model})
        _examine(context, given)
        create_endpoint.create(context, given)
    url, key = deploy_gateway(context, args)
    if context.dry_run:
        return Result({"url": None}, ["Dry run: nothing was deployed."])
    _smoke_test(context, url, partial(visit, key=key) if key else visit)
    lines = [
        f"Easel is at {url}",
        f"  {url}inference/an astronaut riding a horse on mars",
        "`python -m endpoint.status` shows what it costs, `./setup.sh destroy` removes it.",
    ]
    return Result({"url": url}, lines)


def _examine(context: Context, args: argparse.Namespace) -> None:
    found = examine(context, args)
    for line in (line for check in found for line in check.lines()):
        context.console.say(line)
    bad = [check for check in found if check.state == "bad"]
    if bad:
        raise ScriptError(f"{bad[0].subject}: {bad[0].finding}", bad[0].advice)


def deploy_gateway(context: Context, args: argparse.Namespace) -> tuple[str, str | None]:
    """Deploy the gateway to the endpoints that there are.

    Returns:
        Its URL, and a key for the next hour if it asks for keys.
    """
    deployment = context.deployment
    context.begin(f"gateway: Lambda function {deployment.function} and its REST API")
    if context.dry_run:
        context.console.say("  would run chalice deploy")
        return "", None
    models = _models_on_offer(context, args)
    concurrency = _allowed_concurrency(context, args.concurrency)
    function = context.gateway.function(deployment.function)
    before = (function or {}).get("Environment", {}).get("Variables", {})
    access = access_of(args, before, deployment.bucket)
    settings = GatewaySettings(
        models, log_prompts=args.log_prompts, concurrency=concurrency, access=access.variables
    )
    project = GatewayProject(deployment)
    project.write(settings, context.stacks.outputs(deployment.stack)["GatewayRoleArn"])

    apis = context.gateway.apis_of(deployment.function)
    for surplus in apis[1:]:
        context.gateway.delete_api(surplus)
    project.note_deployed(function["FunctionArn"] if function else None, apis[0] if apis else None)
    run_chalice(context, project)

    (api,) = context.gateway.apis_of(deployment.function)
    context.begin(f"throttling: {args.requests_per_second:g} requests per second")
    context.gateway.throttle(api, args.requests_per_second, args.burst)
    context.gateway.tag_api(api, deployment.region, deployment.partition, {TAG: deployment.name})
    return url_of(api, deployment.region), access.smoke_key


def _models_on_offer(context: Context, args: argparse.Namespace) -> tuple[OfferedModel, ...]:
    """Return the deployment's models, the one that was asked for first."""
    deployment = context.deployment
    names = filter(deployment.owns, context.endpoints.names(f"{deployment.prefix}-"))
    found = [offered for name in names if (offered := _offered(context, name))]
    first = catalogue.resolve(args.model, args.revision).name
    return tuple(sorted(found, key=lambda model: (model.name != first, model.name)))


def _offered(context: Context, endpoint: str) -> OfferedModel | None:
    described = context.endpoints.find(endpoint)
    if described is None:
        return None
    config = context.models.find_config(described["EndpointConfigName"]) or {}
    name = context.deployment.model_of(endpoint)
    model = config["ProductionVariants"][0]["ModelName"]
    # The name of SageMaker's model ends in the hash of its code, weights and settings.
    revision = model.rpartition("-")[2]
    jobs = f"s3://{context.deployment.bucket}/jobs/{name}/" if _is_asynchronous(config) else None
    known = read_metadata(context.models, context.bucket, name, model)
    return OfferedModel(name, endpoint, revision, jobs, known)


def _is_asynchronous(config: dict[str, Any]) -> bool:
    return bool(config.get("AsyncInferenceConfig"))


def _allowed_concurrency(context: Context, wanted: int) -> int | None:
    """Return the reservation, unless the account's limit is too low for any."""
    if not wanted:
        return None
    try:
        limits = context.account.client("lambda").get_account_settings()["AccountLimit"]
    except ClientError:
        return wanted
    if limits["UnreservedConcurrentExecutions"] - wanted < _UNRESERVED:
        context.console.say("  this account's Lambda limit leaves no room to reserve: not limited")
        return None
    return wanted


def run_chalice(context: Context, project: GatewayProject) -> None:
    """Run `chalice deploy`.

    Raises:
        ScriptError: if it fails; its own last words are in the message.
    """
    command = [sys.executable, "-c", "from chalice.cli import main; main()"]
    command += ["--project-dir", str(project.folder), "deploy", "--stage", context.name]
    environment = {**os.environ, "AWS_DEFAULT_REGION": context.account.region}
    profile = getattr(context.account.session, "profile_name", None)
    if profile and profile != "default":
        environment["AWS_PROFILE"] = profile
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and arguments
            command, env=environment, capture_output=True, text=True, check=False,
            timeout=_CHALICE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ScriptError("chalice deploy took longer than 15 minutes.", AGAIN) from error
    output = f"{done.stdout}\n{done.stderr}".strip()
    # chalice goes on without a package that it could not get.
    if done.returncode or "Could not install dependencies" in output:
        raise ScriptError(f"chalice deploy failed:\n{output[-2000:]}", AGAIN)


def _smoke_test(context: Context, url: str, visit: Visit) -> None:
    """Visit the gateway's health and have a picture painted, through the public URL."""
    context.begin(f"smoke test of {url}")
    said = ""

    def look() -> str | None:
        nonlocal said
        try:
            visit(f"{url}health")
            picture = visit(f"{url}inference/a%20smoke%20test?seed=1")
        except OSError as error:
            said = str(error)
            return f"the gateway does not answer yet ({said[:80]})"
        if not picture.startswith(_PNG):
            raise ScriptError(f"{url} answered {len(picture)} bytes that are not a PNG.", AGAIN)
        return None

    try:
        context.waiting.until_done(look, at_most=_FIRST_ANSWER_SECONDS, every=5)
    except ScriptError as error:
        raise ScriptError(
            f"The public URL does not work: {said or error}",
            f"The gateway's log group is /aws/lambda/{context.deployment.function}. {AGAIN}",
        ) from error


def visit_url(url: str, key: str | None = None) -> bytes:
    """Return what a URL answers; raises OSError for anything but success."""
    headers = {"Accept": "image/png", **({"x-api-key": key} if key else {})}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - https, see url_of
        body: bytes = answer.read()
        return body


def main(argv: Sequence[str] | None = None, visit: Visit = visit_url, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), partial(deploy, visit=visit), argv, **given)


if __name__ == "__main__":
    sys.exit(main())
