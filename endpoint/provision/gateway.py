"""Deploy the gateway with chalice, in front of the deployment's endpoints, and throttle it."""

from __future__ import annotations

import os
import subprocess
import sys

from botocore.exceptions import ClientError

from endpoint.aws.models import is_asynchronous
from endpoint.catalogue import models
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions
from endpoint.core.naming import TAG
from endpoint.core.problems import AGAIN, ScriptError
from endpoint.provision.gateway_access import access_of
from endpoint.provision.gateway_project import GatewayProject, GatewaySettings, OfferedModel, url_of
from endpoint.provision.model_metadata import read_description, read_metadata

_CHALICE_SECONDS = 900
# Lambda reserves at least this many for functions without a reservation; a new account has 10 in
# all, so that it cannot reserve any.
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
_UNRESERVED = 100


def deploy(context: Context, options: DeployOptions) -> tuple[str, str | None]:
    """Deploy the gateway in front of the existing endpoints.

    Returns:
        Its URL, and a key that is valid for the next hour if it requires keys.
    """
    deployment = context.deployment
    context.begin(f"gateway: Lambda function {deployment.function} and its REST API")
    if context.dry_run:
        context.console.say("  would run chalice deploy")
        return "", None
    offered = _offered_models(context, options)
    concurrency = _allowed_concurrency(context, options.concurrency)
    function = context.gateway.function(deployment.function)
    before = (function or {}).get("Environment", {}).get("Variables", {})
    access = access_of(options, before, deployment.bucket)
    settings = GatewaySettings(
        offered,
        log_prompts=options.log_prompts,
        concurrency=concurrency,
        access=access.variables,
    )
    project = GatewayProject(deployment)
    project.write(settings, context.stacks.outputs(deployment.stack)["GatewayRoleArn"])

    # An interrupted deployment can leave an API that chalice has no record of.
    apis = context.gateway.apis_of(deployment.function)
    for surplus in apis[1:]:
        context.gateway.delete_api(surplus)
    project.record_deployed(
        function["FunctionArn"] if function else None, apis[0] if apis else None
    )
    _run_chalice(context, project)

    (api,) = context.gateway.apis_of(deployment.function)
    # Every request can cost GPU time, so the public URL has a limit from the start.
    context.begin(f"throttling: {options.requests_per_second:g} requests per second")
    context.gateway.throttle(api, options.requests_per_second, options.burst)
    context.gateway.tag_api(api, deployment.region, deployment.partition, {TAG: deployment.name})
    return url_of(api, deployment.region), access.smoke_key


def _offered_models(context: Context, options: DeployOptions) -> tuple[OfferedModel, ...]:
    """Return the deployment's models, the one of --model first: it becomes the default."""
    deployment = context.deployment
    names = filter(deployment.owns, context.endpoints.names(f"{deployment.prefix}-"))
    offered = [model for name in names if (model := _offered(context, name))]
    first = models.resolve(options.model, options.revision).name
    return tuple(sorted(offered, key=lambda model: (model.name != first, model.name)))


def _offered(context: Context, endpoint: str) -> OfferedModel | None:
    description = context.endpoints.find(endpoint)
    if description is None:
        return None
    config = context.models.find_config(description["EndpointConfigName"]) or {}
    name = context.deployment.model_of(endpoint)
    sagemaker_model = config["ProductionVariants"][0]["ModelName"]
    # The SageMaker model's name ends in the hash of its code, weights and settings.
    revision = sagemaker_model.rpartition("-")[2]
    jobs = f"s3://{context.deployment.bucket}/jobs/{name}/" if is_asynchronous(config) else None
    metadata = read_metadata(context.models, context.bucket, name, sagemaker_model)
    description = read_description(context.models, context.bucket, sagemaker_model)
    return OfferedModel(name, endpoint, revision, jobs, metadata, description)


def _allowed_concurrency(context: Context, requested: int) -> int | None:
    """Return the concurrency to reserve; None for none, or if the account cannot reserve it."""
    if not requested:
        return None
    try:
        # Needs lambda:GetAccountSettings; without it Lambda itself decides on the reservation.
        limits = context.account.client("lambda").get_account_settings()["AccountLimit"]
    except ClientError:
        return requested
    if limits["UnreservedConcurrentExecutions"] - requested < _UNRESERVED:
        context.console.say("  no concurrency reserved: this account's Lambda limit is too low")
        return None
    return requested


def _run_chalice(context: Context, project: GatewayProject) -> None:
    """Run `chalice deploy`.

    Raises:
        ScriptError: if it fails; the end of its output is in the message.
    """
    # Not the `chalice` program, which need not be on the PATH.
    command = [sys.executable, "-c", "from chalice.cli import main; main()"]
    command += ["--project-dir", str(project.folder), "deploy", "--stage", context.name]
    environment = {**os.environ, "AWS_DEFAULT_REGION": context.account.region}
    # chalice makes a session of its own, which has only the environment to go by.
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
    # chalice exits with 0 and deploys without a package that it could not install.
    if done.returncode or "Could not install dependencies" in output:
        raise ScriptError(f"chalice deploy failed:\n{output[-2000:]}", AGAIN)
