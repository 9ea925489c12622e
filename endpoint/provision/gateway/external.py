"""Endpoints that somebody else made, behind the gateway: `deploy --endpoint NAME --backend B`.

Easel only invokes them. No command changes, tags, starts, stops or deletes one. The right to invoke
one is a parameter of the stack; what answers in it is in the gateway's own variables, as the keys
are, so that later deployments keep both.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from endpoint.aws.models import instance_types, is_asynchronous
from endpoint.catalogue import models, prices
from endpoint.cli.context import Context
from endpoint.cli.inventory import price_of
from endpoint.cli.options import DeployOptions
from endpoint.core.backends import setting
from endpoint.core.naming import digest, others_in
from endpoint.core.problems import BadArgument, NotReady
from endpoint.provision import infrastructure, model_metadata
from endpoint.provision.backends import EASEL
from endpoint.provision.gateway.gateway_project import OfferedModel


def check(context: Context, options: DeployOptions) -> None:
    """Refuse options that name an endpoint of others which the gateway cannot use.

    Raises:
        BadArgument: if they contradict each other, or the endpoint is of another kind.
        NotReady: if it is not in service.
    """
    backend = _backend(options)
    if options.endpoint is None:
        if backend != EASEL and not options.own:
            raise BadArgument("--backend is for --endpoint, or for a model that is deployed.")
        return
    name = options.endpoint
    if options.backend is None:
        raise BadArgument(
            "--endpoint needs --backend: what answers in its container.",
            f"One of {', '.join(setting.NAMES)}; docs/backends.md says which is which.",
        )
    if context.deployment.owns(name):
        raise BadArgument(
            f"{name} is a name of this deployment's own endpoints.",
            "`python -m endpoint deploy --model NAME` puts the URL in front of those.",
        )
    _check_kind(context, name)
    _check_model(options)
    for line in _in_words(context, name):
        context.console.say(line)


def check_removal(context: Context, options: DeployOptions, before: Mapping[str, str]) -> None:
    """Refuse to take the URL away from an endpoint in front of which it is not.

    Args:
        context: the deployment.
        options: the command's.
        before: the deployed function's variables.

    Raises:
        BadArgument: for the first such name.
    """
    there = {str(entry["endpoint"]) for entry in _entries(context, before).values()}
    parameters = context.stacks.parameters(context.deployment.stack)
    known = {name.lower() for name in there}
    known |= {infrastructure.endpoint_of(arn) for arn in others_in(parameters)}
    for name in options.without_endpoint:
        if name == options.endpoint:
            raise BadArgument(f"--endpoint and --without-endpoint both name {name}.")
        if name.lower() not in known:
            listed = ", ".join(sorted(there)) or "none of others"
            raise BadArgument(f"The URL is not in front of {name}; it is in front of {listed}.")


def check_names(
    context: Context, options: DeployOptions, before: Mapping[str, str], own: Collection[str]
) -> None:
    """Refuse two models of one name, of which the gateway would offer only one.

    Args:
        context: the deployment.
        options: the command's.
        before: the deployed function's variables.
        own: the names of the deployment's own models, with those that are to be deployed.

    Raises:
        BadArgument: if an endpoint of others has the name of another model.
    """
    name = model_name(options) if options.endpoint else ""
    if name in own:
        raise BadArgument(
            f"There is a model {name} already: {context.deployment.endpoint(name)} serves it.",
            "Delete that first, or leave out --model: the endpoint then has its own name.",
        )
    kept = {
        served: str(entry["endpoint"])
        for served, entry in _kept(context, options, before).items()
        if served == name or served in own
    }
    if options.model and name in kept:
        previous = kept.pop(name)
        context.console.say(
            f"The model {name} moves from {previous} to {options.endpoint}. The gateway may still"
            f" invoke {previous}, until --without-endpoint {previous}."
        )
    for served, endpoint in kept.items():
        # One that does not exist any more prevents nothing.
        if context.endpoints.find(endpoint) is not None:
            raise _same_name(options, served, endpoint, is_own=served in own)


def _same_name(options: DeployOptions, name: str, endpoint: str, *, is_own: bool) -> BadArgument:
    away = f"take the URL away from {endpoint} with --without-endpoint {endpoint}"
    if is_own:
        return BadArgument(
            f"There is a model {name} already: {endpoint}, which is somebody else's, serves it.",
            f"Deploy another model, or {away}. One of the deployment's own is deleted by"
            f" `python -m endpoint delete --model {name}`.",
        )
    return BadArgument(
        f"{options.endpoint} and {endpoint} have the same name in requests, {name}.",
        f"Say with --model what {options.endpoint} serves, or {away}.",
    )


def offered(
    context: Context, options: DeployOptions, before: Mapping[str, str], *, stored: bool
) -> Iterator[OfferedModel]:
    """Yield what the gateway offers of others, the endpoint of the options first.

    Args:
        context: the deployment.
        options: the command's.
        before: the deployed function's variables.
        stored: whether pictures of real-time models are stored.

    Raises:
        BadArgument: if an option of theirs has an unusable value, or no effect.
    """
    backend, first = _backend(options), ""
    if options.endpoint:
        model = models.find(options.model) if options.model else None
        defaults = model.defaults if model else {}
        first = model_name(options)
        yield _offered(context, options.endpoint, first, backend, defaults, stored)
    for name, entry in _kept(context, options, before).items():
        if name != first:
            endpoint, defaults = str(entry["endpoint"]), entry.get("defaults", {})
            yield _offered(context, endpoint, name, entry["backend"], defaults, stored)


def model_name(options: DeployOptions) -> str:
    """Return the name in requests of what the options' endpoint serves."""
    model = models.find(options.model) if options.model else None
    return model.name if model else models.as_name(options.endpoint or "")


def _backend(options: DeployOptions) -> str | dict[str, Any]:
    """Return the setting of the options' backend.

    Raises:
        BadArgument: if an option is of another backend, or has an unusable value.
    """
    name = options.backend or EASEL
    extra: dict[str, Any] = {}
    if options.accepts:
        extra["accepts"] = list(options.accepts)
    if options.accept_eula:
        extra["accept_eula"] = True
    if extra and options.endpoint is None:
        raise BadArgument("--accepts and --accept-eula are for --endpoint.")
    try:
        return setting.read({"name": name, **extra}).setting
    except ValueError as error:
        raise BadArgument(f"--{str(error).replace('_', '-')}.") from error


def _check_kind(context: Context, name: str) -> None:
    description = context.endpoints.find(name)
    region = context.account.region
    if description is None:
        raise BadArgument(
            f"There is no endpoint {name} in {region}.",
            f"`aws sagemaker list-endpoints --region {region}` lists them.",
        )
    if description["EndpointStatus"] != "InService":
        raise NotReady(
            f"{name} is not in service: it is {description['EndpointStatus']}.",
            "Run the same command once it is.",
        )
    config = context.models.find_config(description["EndpointConfigName"]) or {}
    if is_asynchronous(config):
        raise BadArgument(
            f"{name} is asynchronous: its pictures go to its owner's place in S3.",
            "The URL can be put in front of real-time endpoints.",
        )
    if not all(variant.get("ModelName") for variant in config.get("ProductionVariants", [])):
        raise BadArgument(
            f"{name} has inference components, of which Easel does not choose one.",
            "The URL can be put in front of endpoints that serve one model.",
        )


def _check_model(options: DeployOptions) -> None:
    model = models.find(options.model) if options.model else None
    if options.model and model is None:
        raise BadArgument(
            f"--model {options.model}: with --endpoint it is a name in the catalogue, whose"
            f" defaults the endpoint gets: {', '.join(models.read())}."
        )
    backend = setting.read(_backend(options))
    missing = backend.abilities.required - (model.defaults if model else {}).keys()
    if missing:
        raise BadArgument(
            f"{backend.title} has to be sent {', '.join(sorted(missing))}, because its own default"
            " suits few models.",
            "Name what the endpoint serves with --model, which has the default.",
        )


def _in_words(context: Context, name: str) -> Iterator[str]:
    description = context.endpoints.find(name) or {}
    config = context.models.find_config(description.get("EndpointConfigName", "")) or {}
    usd, count, types = price_of(description, config)
    yield f"{name}: in service, {count} x {types}, {prices.in_words(usd)}, which go on:"
    yield "  Easel only invokes it. Nothing of Easel changes or ends it, not even a monthly cap."


def _offered(
    context: Context,
    endpoint: str,
    name: str,
    backend: str | dict[str, Any],
    defaults: Mapping[str, Any],
    stored: bool,
) -> OfferedModel:
    description = context.endpoints.find(endpoint)
    if description is None:
        context.console.say(
            f"  {endpoint} does not exist any more; --without-endpoint {endpoint} takes the URL"
            " away from it."
        )
        description = {}
    config_name = str(description.get("EndpointConfigName", ""))
    config = (context.models.find_config(config_name) or {}) if config_name else {}
    known = model_metadata.metadata(defaults, None, ())
    usd = prices.dearest(instance_types(config))
    keeps = stored and setting.read(backend).repeats
    return OfferedModel(
        name,
        endpoint,
        # Its owner may deploy something else under the same name.
        digest([endpoint, config_name, str(description.get("CreationTime", "")), backend]),
        None,
        {**known, **({} if usd is None else {"usd_per_hour": usd})},
        pictures=f"s3://{context.deployment.bucket}/pictures/{name}/" if keeps else None,
        backend=backend,
    )


def _kept(
    context: Context, options: DeployOptions, before: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return those of `_entries` whose endpoints the options do not name."""
    named = {name.lower() for name in (*options.without_endpoint, options.endpoint or "")}
    return {
        name: entry
        for name, entry in _entries(context, before).items()
        if str(entry["endpoint"]).lower() not in named
    }


def _entries(context: Context, before: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the deployed gateway's models that endpoints of others serve, by their names."""
    # What anybody else wrote there is replaced.
    try:
        entries = json.loads(before.get("EASEL_MODELS", "{}"))
        return {
            name: {**entry, "backend": setting.read(entry.get("backend")).setting}
            for name, entry in entries.items()
            if isinstance(entry.get("endpoint"), str)
            and not context.deployment.owns(entry["endpoint"])
        }
    except (ValueError, AttributeError, RecursionError):
        return {}
