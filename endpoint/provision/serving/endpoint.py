"""Create a model's endpoint, or update it to the options; the steps from top to bottom.

    infrastructure   the stack: bucket, roles, dashboard, and a private network if requested
    image            the deployment's own, built once, unless another one is requested; AWS's for
                     Inferentia2, and for a backend that is not Easel's own
    files            the serving code into the bucket, and the weights with --weights s3; on
                     Inferentia2 what `compile` has made of them
    model            SageMaker's record of image, files and environment
    configuration    the instance types, in the order to try them
    lease            the schedule that deletes a real-time endpoint when nobody has used it for long
    endpoint         an instance starts: from here on it costs money by the hour; an asynchronous
                     endpoint scales to zero instances while idle
    warm-up          a first picture, because a passed health check does not prove a loaded model
    description      what the model says about itself, stored for the gateway

Every step uses what exists already, so the same command continues after any interruption.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from endpoint.aws.logs import group_of
from endpoint.aws.models import MOST_INSTANCES_TAG
from endpoint.aws.registry import Image
from endpoint.catalogue import images, models, prices, quantisation
from endpoint.catalogue.models import Model
from endpoint.cli.context import Context
from endpoint.cli.options import EndpointOptions
from endpoint.core.backends import setting
from endpoint.core.compiled_models import Compiled
from endpoint.core.naming import TAG
from endpoint.core.problems import (
    AGAIN,
    BadArgument,
    ScriptError,
    UploadFailed,
)
from endpoint.provision import backends, infrastructure
from endpoint.provision.files import payload, weights
from endpoint.provision.files.upload import Upload
from endpoint.provision.ownership import Ownership
from endpoint.provision.self_description import store_description
from endpoint.provision.serving import capacity, fit, in_service, inferentia, own_image, pins
from endpoint.provision.serving import lease as leases
from endpoint.provision.serving.definitions import Serving, container_environment
from endpoint.provision.serving.image import choose_image, inference_ami, known_image
from endpoint.provision.serving.warm_up import warm_up
from endpoint.provision.settings_check import check_container

# Of those that quantisations need: model_package/server/requirements-cuda.lock.
_OWN_PACKAGES = {"gguf"}


@dataclass(frozen=True)
class CreatedEndpoint:
    """An endpoint in service.

    Attributes:
        name: its name in SageMaker.
        model: the model that it serves.
        instance_types: the types that it can run on.
        warm_up_seconds: the duration of its first request; None in a dry run.
    """

    name: str
    model: Model
    instance_types: tuple[str, ...]
    warm_up_seconds: float | None


def create(context: Context, options: EndpointOptions) -> CreatedEndpoint:
    """Create or update the endpoint of the options' model.

    Raises:
        ScriptError: if a step fails; the steps before it stay in place, and an endpoint that
            exists keeps serving, with its scaling.
    """
    model = check_options(options)
    infrastructure.check_budget(options, context.account.region)
    weights.require_usable(model, context.console)
    compiled = inferentia.chosen(context, model, options)
    model = inferentia.with_size(model, compiled) if compiled else model
    Ownership(context).refuse_others(context.deployment.endpoint(model.name))
    types = types_of(context, options, model)
    capacity.require_room(context, {context.deployment.endpoint(model.name): types})
    # One type stands for all: each of them has the same kind of accelerator, and so the image is
    # the same.
    image = choose_image(context, options.image, types[0], model.backend)
    _require_packages(context, image, options, model)
    model = pins.pin(context, model)
    here = compiled is None and _are_fetched_here(model, options)
    if compiled:
        context.console.say(f"Compiled: {compiled.target.title}. Not tried on AWS by this project.")
    if network := prices.network_per_hour(options.private_network):
        context.console.say(f"The private network's endpoints: {prices.in_words(network)}.")
    _confirm(context, model, types, image, options, here=here)
    in_service.repair_scaling(context)

    # Before the stack, so that unusable weights leave nothing behind.
    weight_files = [] if compiled else _weight_files(context, model, options)
    infrastructure.ensure(context, image, types, options)
    if own_image.is_own(context, image):
        image = own_image.ensure(context)
    serving = _ensure_files(context, model, image, types, options, weight_files, compiled)

    deployment, tags = context.deployment, context.deployment.tags
    endpoint = deployment.endpoint(model.name)
    definition = serving.model(model)
    model_name = deployment.versioned(model.name, definition)
    context.begin(f"model {model_name}")
    context.models.ensure_model(model_name, definition, tags)

    definition = serving.config(model, model_name)
    most = {"Key": MOST_INSTANCES_TAG, "Value": str(options.most_instances)}
    # The tag is part of the content: another limit makes another version.
    config = deployment.versioned(model.name, [definition, most])
    context.begin(f"endpoint configuration {config}")
    context.models.ensure_config(config, definition, [*tags, most])

    context.begin(f"endpoint {endpoint}: at most {prices.in_words(prices.dearest(types))}")
    # Before the endpoint, which would create the group without tag and retention.
    context.logs.ensure(group_of(endpoint), {TAG: deployment.name})
    in_service.bring_into_service(
        context,
        endpoint,
        config,
        tags,
        replace=options.replace,
        lease=options.lease,
        definition=definition,
    )
    if context.dry_run and model.asynchronous:  # there is no endpoint that says so
        context.scaling.ensure(endpoint, options.most_instances, deployment.name)

    context.begin("warm-up: a first picture")
    served = backends.Served(setting.read(model.backend), model.defaults, model.name)
    seconds = warm_up(context, endpoint, served, asynchronous=model.asynchronous)
    if model.backend == backends.EASEL:
        store_description(context, endpoint)

    # Only now: the previous version stays until the new one has returned a picture.
    prefix = _prefix(context, model.name, serving)
    _remove_superseded(context, model.name, [model_name, config], prefix)
    return CreatedEndpoint(endpoint, model, types, seconds)


def check_options(options: EndpointOptions) -> Model:
    """Return the options' model, whose container can read all that they say.

    Raises:
        BadArgument: if an option has an unusable value, or options contradict each other.
    """
    model = inferentia.check(backends.resolve(options), options)
    _check_weights(model, options)
    fit.require(model, options.instance_type or model.instance_types)
    if options.budget and not options.email:
        raise BadArgument("--budget requires --email.")
    if model.backend == backends.EASEL:
        check_container(
            container_environment(
                model, weights_in_s3=_in_s3(model, options), log_prompts=options.log_prompts
            )
        )
    return model


def _in_s3(model: Model, options: EndpointOptions) -> bool:
    types = options.instance_type or model.instance_types
    return inferentia.is_served_on(types) or (options.weights or model.weights) == "s3"


def _are_fetched_here(model: Model, options: EndpointOptions) -> bool:
    """Whether the weights come from the hub to this machine."""
    return _in_s3(model, options) and model.source is not None


def _check_weights(model: Model, options: EndpointOptions) -> None:
    if options.private_network and quantisation.needs_hub(model.quantise):
        raise BadArgument(
            f"{model.quantise} loads its kernels from the hub, which --private-network prevents.",
            "Choose another --quantise, or leave out --private-network.",
        )
    if _in_s3(model, options):
        return
    if model.folder:
        raise BadArgument("A local folder must be uploaded.", "Add --weights s3.")
    if options.private_network:
        raise BadArgument(
            "Without internet access the container cannot download weights.", "Add --weights s3."
        )
    if model.gated:
        raise BadArgument(
            f"{model.repository} is gated, and a model's settings are no place for a token.",
            "Accept its terms, set HF_TOKEN here, and add --weights s3.",
        )


def types_of(context: Context, options: EndpointOptions, model: Model) -> tuple[str, ...]:
    """Return the instance types that the endpoint of a model will have.

    Raises:
        QuotaTooSmall: if the account's quotas allow none.
    """
    return capacity.affordable_types(context, options.instance_type or model.instance_types)


def _confirm(
    context: Context,
    model: Model,
    types: tuple[str, ...],
    image: Image,
    options: EndpointOptions,
    *,
    here: bool,
) -> None:
    endpoint = context.deployment.endpoint(model.name)
    price = prices.in_words(prices.dearest(types))
    idle = ", and nothing while idle" if model.asynchronous else ""
    context.console.say(f"{model.title} ({model.repository}); licence: {model.licence}.")
    said = [model.duties] if model.duties else []
    said += fit.lines(model, types)
    said += backends.lacking(model, models.resolve(options.model, options.revision))
    for line in said:
        context.console.say(line)
    sources = prices.provenance(types)
    context.console.say(f"On {' or '.join(types)}: at most {price}{idle}. {sources}")
    if not model.asynchronous:
        context.console.say(leases.in_words(context, endpoint, options.lease))
    for line in own_image.plan(context, image):
        context.console.say(line)
    known = known_image(image)
    for trouble in known.known_trouble(context.clock.now().date()) if known else ():
        context.console.say(f"Image {image.uri}: {trouble.finding} ({trouble.source}).")
    by_way_of = ""
    if here:
        context.console.say(
            "Its weights, several GB, are downloaded to this machine and uploaded to S3, so that"
            " its instances start without the hub; --weights fetch leaves the download to them."
        )
        by_way_of = " with weights by way of this machine"
    if options.replace and context.endpoints.find(endpoint):
        context.console.say(
            f"--replace deletes {endpoint} before the new version is created: it answers nothing"
            " for about ten minutes. No instance is paid for twice."
        )
        context.console.ask(f"Replace {endpoint} in {context.account.region}{by_way_of}?")
    else:
        context.console.ask(f"Create {endpoint} in {context.account.region}{by_way_of}?")


def _require_packages(
    context: Context, image: Image, options: EndpointOptions, model: Model
) -> None:
    """Refuse an image without the packages of a model, or without PyPI to get its own.

    Raises:
        BadArgument: if that is what the options ask for.
    """
    known = known_image(image)
    if known and not known.has_diffusers(model.diffusers):
        raise BadArgument(
            f"{known.title} contains diffusers {known.diffusers}, and {model.title} needs"
            f" {model.diffusers}.",
            "Leave out --image, for Easel's own image.",
        )
    package, own = quantisation.package(model.quantise), own_image.is_own(context, image)
    if package and (known or (own and package not in _OWN_PACKAGES)):
        name = known.title if known else "Easel's own image"
        advice = "Leave out --image, for Easel's own image."
        raise BadArgument(
            f"{name} lacks the package {package}, which --quantise {model.quantise} needs.",
            advice if package in _OWN_PACKAGES else f"Pass an image with {package}: --image URI.",
        )
    if options.private_network and known and known.ray_serve:
        raise BadArgument(
            f"{known.title}, installs packages from PyPI when it starts, which --private-network"
            " prevents.",
            "Leave out --image, for Easel's own image, or --private-network.",
        )


def _ensure_files(
    context: Context,
    model: Model,
    image: Image,
    types: tuple[str, ...],
    options: EndpointOptions,
    weight_files: list[payload.File],
    compiled: Compiled | None,
) -> Serving:
    """Store code and weights in the bucket; return how to serve the model with them."""
    known = known_image(image)
    is_ray_serve = known is not None and known.ray_serve
    code = _code_files(model, is_ray_serve=is_ray_serve)
    code += inferentia.code_files() if compiled else []
    prefix = payload.prefix_of(model.name, code + weight_files, compiled.root if compiled else "")
    address = f"s3://{context.deployment.bucket}/{prefix}"
    if code or weight_files:
        context.begin(f"files below {address}")
    payload.ensure_code(context.bucket, prefix, code)
    if model.backend == backends.EASEL:
        payload.ensure_adapters(context.bucket, model.name)
    if compiled:
        inferentia.ensure_files(context, prefix, compiled)
    elif weight_files:
        upload = Upload(context.bucket, context.console, context.clock, pretend=context.dry_run)
        upload.ensure(prefix, weight_files)
    serving = Serving(
        image=image.uri,
        role=context.deployment.endpoint_role,
        data=address if code or weight_files else "",
        adapters=(
            f"s3://{context.deployment.bucket}/{payload.adapters_prefix(model.name)}"
            if compiled is None
            else ""
        ),
        weights_in_s3=bool(weight_files or compiled),
        instance_types=types,
        output=f"s3://{context.deployment.bucket}/jobs/",
        inference_ami=inference_ami(
            context, image, options.inference_ami or (images.AMI_OF_NEURON if compiled else None)
        ),
        ray_serve=is_ray_serve,
        log_prompts=options.log_prompts,
    )
    return _with_network(context, serving) if options.private_network else serving


def _code_files(model: Model, *, is_ray_serve: bool) -> list[payload.File]:
    """Return the files of the serving code; other backends take none."""
    if model.backend != backends.EASEL:
        return []
    return payload.code_files() + (payload.ray_serve_files() if is_ray_serve else [])


def _weight_files(context: Context, model: Model, options: EndpointOptions) -> list[payload.File]:
    """Return the files to store in S3; none if the container fetches them."""
    # A dry run downloads nothing.
    if not _in_s3(model, options) or (context.dry_run and model.source):
        return []
    try:
        return _gather(context, model)
    except ScriptError as error:
        # A default is no reason to fail, unless the container cannot fetch them either.
        if options.weights or model.gated or options.private_network:
            raise
        context.console.say(f"{error} The container will download the weights itself.")
        return []


def _gather(context: Context, model: Model) -> list[payload.File]:
    try:
        return weights.gather(model, context.console)
    except ScriptError:
        raise
    except Exception as error:  # the hub library documents no set of errors
        raise UploadFailed(
            f"The weights of {model.repository} could not be read:"
            f" {str(error) or type(error).__name__}",
            f"Check the network and the files. {AGAIN}",
        ) from error


def _with_network(context: Context, serving: Serving) -> Serving:
    if context.dry_run:  # the stack, and so the network, does not exist yet
        return serving
    outputs = context.stacks.outputs(context.deployment.stack)
    return replace(
        serving,
        subnets=tuple(
            value for name, value in sorted(outputs.items()) if name.startswith("SubnetId")
        ),
        security_group=outputs["SecurityGroupId"],
    )


def _prefix(context: Context, model: str, serving: Serving) -> str:
    """Return the prefix of the files in use; without files, one that has none."""
    own = serving.data.removeprefix(f"s3://{context.deployment.bucket}/")
    return own or payload.prefix_of(model, [])


def _remove_superseded(context: Context, model: str, keep: list[str], prefix: str) -> None:
    """Delete a model's other versions: endpoint configurations, SageMaker models, files.

    Files that Easel did not upload are kept and listed.
    """
    deployment, ownership = context.deployment, Ownership(context)
    endpoint = deployment.endpoint(model)
    # A search by name also finds models whose names begin with this one's.
    configs = [item["EndpointConfigName"] for item in context.models.configs(endpoint)]
    names = [item["ModelName"] for item in context.models.models(endpoint)]
    for name in configs:
        superseded = deployment.is_version_of(name, model) and name not in keep
        if superseded and ownership.owns_config(name):
            context.models.delete_config(name)
    for name in names:
        superseded = deployment.is_version_of(name, model) and name not in keep
        if superseded and ownership.owns_model(name):
            context.models.delete_model(name)
    stored = payload.superseded(context.bucket, model, prefix, keep[0])
    context.bucket.delete(stored.own)
    for line in stored.lines():
        context.console.say(line)
    if stored.others:
        place = f"s3://{context.bucket.name}/{payload.adapters_prefix(model)}"
        context.console.say(f"Adapters belong into {place}, where each version reads them.")
