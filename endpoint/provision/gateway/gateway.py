"""Deploy the gateway with chalice, in front of the deployment's endpoints, and throttle it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from endpoint.aws.models import instance_types, is_asynchronous
from endpoint.catalogue import models, prices
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions
from endpoint.core.backends import setting
from endpoint.core.backends.backend import Backend
from endpoint.core.leases import Scheduled
from endpoint.core.naming import TAG, digest
from endpoint.core.problems import AGAIN, BadArgument, ScriptError
from endpoint.provision import backends, model_facts, model_metadata
from endpoint.provision.files.payload import adapters_prefix
from endpoint.provision.gateway import external
from endpoint.provision.gateway.gateway_access import access_of, requires_keys
from endpoint.provision.gateway.gateway_project import (
    GatewayProject,
    GatewaySettings,
    OfferedModel,
    gateway_responses,
    url_of,
)
from endpoint.provision.ownership import Ownership
from endpoint.provision.settings_check import check_gateway

_CHALICE_SECONDS = 900
# Lambda reserves at least this many for functions without a reservation; a new account has 10 in
# all, so that it cannot reserve any.
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
_UNRESERVED = 100
_SMALLEST_LIMIT = 10


def deploy(
    context: Context, options: DeployOptions, training: str | None = None
) -> tuple[str, str | None]:
    """Deploy the gateway in front of the existing endpoints.

    Args:
        context: the deployment.
        options: the command's.
        training: its setting EASEL_TRAINING; None where it offers no training.

    Returns:
        Its URL, and a key that is valid for the next hour if it requires keys.
    """
    deployment = context.deployment
    context.begin(f"gateway: Lambda function {deployment.function} and its REST API")
    if context.dry_run:
        context.console.say("  would run chalice deploy")
        return "", None
    function = context.gateway.function(deployment.function)
    access = access_of(options, _variables(function), deployment.bucket)
    free = _free_concurrency(context)
    settings = GatewaySettings(
        _offered_models(context, options, _variables(function)),
        log_prompts=options.log_prompts,
        concurrency=_allowed_concurrency(context, options.concurrency, free),
        account_concurrency=_SMALLEST_LIMIT if free is None else free,
        access=access.variables,
        training=training,
        spend=f"s3://{deployment.bucket}/spend/",
    )
    # Again: the models' own metadata is known only now.
    check_gateway(settings.environment())
    project = GatewayProject(deployment)
    project.write(settings, context.stacks.outputs(deployment.stack)["GatewayRoleArn"])

    # An interrupted deployment can leave an API that chalice has no record of.
    apis = context.gateway.apis_of(deployment.function_arn)
    for surplus in apis[1:]:
        context.gateway.delete_api(surplus)
    project.record_deployed(
        function["FunctionArn"] if function else None, apis[0] if apis else None
    )
    try:
        _run_chalice(context, project)
    finally:
        project.remove_configuration()

    # The stack with the rule is older than the function, which it therefore cannot give this right.
    context.gateway.allow_rule(deployment.function, deployment.batch_rule_arn)
    (api,) = context.gateway.apis_of(deployment.function_arn)
    # chalice has no setting for these, and its next deployment removes them.
    context.gateway.set_responses(api, gateway_responses())
    # Every request can cost GPU time, so the public URL has a limit from the start.
    context.begin(f"throttling: {options.requests_per_second:g} requests for pictures per second")
    context.gateway.throttle(api, options.requests_per_second, options.burst)
    context.gateway.tag_api(api, deployment.region, deployment.partition, {TAG: deployment.name})
    endpoint = context.account.client("apigateway").meta.endpoint_url
    return url_of(api, deployment.region, endpoint), access.smoke_key


def default_backend(context: Context) -> Backend:
    """Return what serves the deployed gateway's default model."""
    variables = _variables(context.gateway.function(context.deployment.function))
    entries: dict[str, dict[str, Any]] = json.loads(variables.get("EASEL_MODELS", "{}"))
    first = next(iter(entries.values()), None)
    return setting.EASEL if first is None else setting.read(first.get("backend"))


def check(context: Context, options: DeployOptions) -> None:
    """Have the gateway read what it would be deployed with; ask before it is open to everybody.

    Nothing has been changed until then. What the models themselves will say is not known yet.

    Raises:
        BadArgument: if an option has a value that the gateway, or AWS, does not accept.
        ScriptError: if the Lambda function is not the deployment's.
    """
    _check_limits(options)
    Ownership(context).refuse_other_function()
    deployment = context.deployment
    before = context.gateway.function(deployment.function)
    external.check_removal(context, options, _variables(before))
    offered = _offered_models(context, options, _variables(before))
    if not offered and not options.own:
        raise BadArgument(
            "The URL would be left without a model.",
            "Deploy another one with --model, or take everything down: `./setup.sh destroy`.",
        )
    own = {model.name for model in offered if deployment.owns(model.endpoint)}
    own |= {backends.resolve(each).name for each in options.own_options()}
    external.check_names(context, options, _variables(before), own)
    variables = _check_settings(context, options, offered, _variables(before))
    if requires_keys(variables):
        return
    if options.training:
        raise BadArgument(
            "--training requires keys: what it costs must be somebody's.",
            "Create one with `python -m endpoint create-key NAME`, and pass --keys FILE.",
        )
    region = context.account.region
    if requires_keys(_variables(before)):
        context.console.ask(
            f"The gateway of {deployment.prefix} in {region} requires a key. Delete all keys, and"
            " let everybody who knows its URL generate pictures?"
        )
    elif before is None and not options.open:
        context.console.ask(
            "Everybody who knows the URL will be able to generate pictures, without a key (--keys"
            " requires one). Deploy it so?"
        )


def check_options(context: Context, options: DeployOptions) -> None:
    """Have the gateway read the options alone, whatever is deployed.

    Raises:
        BadArgument: if an option has a value that the gateway, or AWS, does not accept.
    """
    _check_limits(options)
    offered = tuple(external.offered(context, options, {}, stored=True))
    if not (offered or options.own):  # the options change nothing but what is deployed
        before = _variables(context.gateway.function(context.deployment.function))
        offered = _offered_models(context, options, before)
    _check_settings(context, options, offered, {})


def _check_settings(
    context: Context,
    options: DeployOptions,
    offered: Iterable[OfferedModel],
    before: Mapping[str, str],
) -> Mapping[str, str]:
    """Have the gateway read the options, with what is deployed; return the variables of access."""
    access = access_of(options, before, context.deployment.bucket).variables
    planned = {model.name: model for model in offered}
    stored = _stores_pictures(options, before)
    for own in options.own_options():
        model = backends.resolve(own)
        planned[model.name] = _planned(context, model, options.instance_type, stored=stored)
    settings = GatewaySettings(
        tuple(planned.values()), log_prompts=options.log_prompts, access=access
    )
    check_gateway(settings.environment())
    return access


def _check_limits(options: DeployOptions) -> None:
    rate = options.requests_per_second
    if not (math.isfinite(rate) and rate > 0):
        raise BadArgument("--requests-per-second must be a number above 0.")
    if options.burst < 1:
        raise BadArgument("--burst must be 1 or more.")
    if options.concurrency < 0:
        raise BadArgument("--concurrency must be 0 or more.")


def _variables(function: Mapping[str, Any] | None) -> dict[str, str]:
    variables: dict[str, str] = (function or {}).get("Environment", {}).get("Variables", {})
    return variables


def _stores_pictures(options: DeployOptions, before: Mapping[str, str]) -> bool:
    """Whether pictures of real-time models are stored: as the option says, else as it is now."""
    if options.stored_pictures is not None:
        return options.stored_pictures
    # What anybody else set there is replaced.
    with suppress(ValueError, TypeError, AttributeError):
        entries = json.loads(before["EASEL_MODELS"]).values() if "EASEL_MODELS" in before else ()
        # Of pictures that cannot be repeated none is stored, whatever the option says.
        real_time = [
            entry
            for entry in entries
            if "endpoint" in entry and setting.read(entry.get("backend")).repeats
        ]
        return not real_time or any("pictures" in entry for entry in real_time)
    return True


def _planned(
    context: Context, model: models.Model, types: tuple[str, ...] | None, *, stored: bool
) -> OfferedModel:
    """Return a model as it will be offered, as far as that is known before its endpoint exists.

    Args:
        context: the deployment.
        model: of the catalogue.
        types: the instance types to try; None for the model's own.
        stored: whether its pictures are stored.
    """
    bucket = context.deployment.bucket
    known = model_metadata.metadata(model.defaults, model.seconds, ())
    if model.backend == backends.EASEL:
        known["adapters"] = f"s3://{bucket}/{adapters_prefix(model.name)}"
    known |= _price(types or model.instance_types)
    stored = stored and setting.read(model.backend).repeats
    jobs, pictures = _places(context, model.name, asynchronous=model.asynchronous, stored=stored)
    endpoint, revision = context.deployment.endpoint(model.name), digest(model.name)
    return OfferedModel(
        model.name, endpoint, revision, jobs, known, pictures=pictures, backend=model.backend
    )


def _places(
    context: Context, model: str, *, asynchronous: bool, stored: bool
) -> tuple[str | None, str | None]:
    """Return where the jobs of a model are stored, and its real-time pictures."""
    bucket = f"s3://{context.deployment.bucket}"
    if asynchronous:
        return f"{bucket}/jobs/{model}/", None
    return None, f"{bucket}/pictures/{model}/" if stored else None


def _offered_models(
    context: Context, options: DeployOptions, before: Mapping[str, str]
) -> tuple[OfferedModel, ...]:
    """Return the deployment's models, the one of --model first: it becomes the default.

    Those that endpoints of others serve are among them.
    """
    stored = _stores_pictures(options, before)
    deployment = context.deployment
    names = filter(deployment.owns, context.endpoints.names(f"{deployment.prefix}-"))
    ownership = Ownership(context)
    # An endpoint that is not Easel's is not made public, whatever it is called.
    own = list(filter(ownership.owns_endpoint, names))
    schedules = context.schedules.of(deployment.lease_group, f"{deployment.prefix}-")
    leases = {name: Scheduled.read(schedule) for name, schedule in schedules}
    # Those that their leases have ended are asleep, and stay on offer.
    asleep = [name for name, lease in leases.items() if lease.active and name not in own]
    wake = context.stacks.parameters(deployment.stack).get("Wake") == "yes"
    offered = [
        model
        for name in (*own, *asleep)
        if (model := _offered(context, name, leases.get(name), wake=wake, stored=stored))
    ]
    own_names = {model.name for model in offered}
    offered += [
        model
        for model in external.offered(context, options, before, stored=stored)
        # `check` has refused it, unless the other endpoint does not exist any more.
        if model.name not in own_names
    ]
    first = _first(options, before)
    return tuple(sorted(offered, key=lambda model: (model.name != first, model.name)))


def _first(options: DeployOptions, before: Mapping[str, str]) -> str | None:
    """Return the name of the model that is the default; as it was, where no option says so."""
    if options.endpoint:
        return external.model_name(options)
    if options.own:
        return models.resolve(options.own[0], options.revision).name
    with suppress(ValueError, TypeError, StopIteration):
        return str(next(iter(json.loads(before.get("EASEL_MODELS", "{}")))))
    return None


def _offered(
    context: Context, endpoint: str, scheduled: Scheduled | None, *, wake: bool, stored: bool
) -> OfferedModel | None:
    description = context.endpoints.find(endpoint)
    name = description["EndpointConfigName"] if description else scheduled and scheduled.config
    config = context.models.find_config(name) if name else None
    if config is None:
        return None
    name = context.deployment.model_of(endpoint)
    sagemaker_model = config["ProductionVariants"][0]["ModelName"]
    known = model_metadata.read(context.models, context.bucket, name, sagemaker_model)
    stored = stored and setting.read(known.backend).repeats
    jobs, pictures = _places(context, name, asynchronous=is_asynchronous(config), stored=stored)
    revision = known.revision(sagemaker_model)
    group = context.deployment.lease_group
    # Without an end there is nothing to renew.
    has_lease = scheduled is not None and scheduled.lease.hours is not None
    lease = {"schedule": f"{group}/{endpoint}", "wake": wake} if has_lease else {}
    types = instance_types(config)
    return OfferedModel(
        name,
        endpoint,
        revision,
        jobs,
        {**known.metadata, **_price(types)},
        known.description,
        lease,
        pictures,
        model_facts.of_deployed(context.models, name, sagemaker_model, types),
        known.backend,
    )


def _price(types: Iterable[str]) -> dict[str, float]:
    """Return what an hour of an endpoint costs at most; nothing if it is unknown."""
    usd = prices.dearest(types)
    return {} if usd is None else {"usd_per_hour": usd}


def _free_concurrency(context: Context) -> int | None:
    """Return how many functions without a reservation can run at once in the account.

    None if the operator may not ask (lambda:GetAccountSettings).
    """
    try:
        limits = context.account.client("lambda").get_account_settings()["AccountLimit"]
    except ClientError:
        return None
    return int(limits["UnreservedConcurrentExecutions"])


def _allowed_concurrency(context: Context, requested: int, free: int | None) -> int | None:
    """Return the concurrency to reserve; None for none, or if the account cannot reserve it."""
    if not requested:
        return None
    if free is None:
        return requested  # Lambda itself decides
    try:
        # The function's own reservation is not among the free ones, but it gives it back.
        own = context.gateway.reserved_concurrency(context.deployment.function)
    except ClientError:
        return requested
    if free + own - requested < _UNRESERVED:
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
    # chalice makes a session of its own, which has only the environment to go by.
    environment = context.account.child_environment()
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
