"""Compile a model for Inferentia2, on AWS, and keep the result for `create`.

    content    weights, adapter, size, compiler: what is compiled already is not compiled again
    price      what the job takes and costs; then a question
    job        on an instance without an accelerator; how far it is, and what it has cost
    result     in the bucket, until `destroy` deletes it

Watching can be left with Ctrl-C and joined by the same command; the job does not depend on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from endpoint.aws.registry import Image
from endpoint.catalogue import models, prices
from endpoint.catalogue.inferentia import Compilable
from endpoint.catalogue.models import Model
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import CompileOptions, add_compile_options, common_parser
from endpoint.cli.script import Result
from endpoint.core import compiled_models
from endpoint.core.compiled_models import Compiled, Target
from endpoint.core.console import elapsed
from endpoint.core.model_folder.files import REFINER, holds_model
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.costs import compiling as costs
from endpoint.provision.compiling.job import CompileJob, Plan
from endpoint.provision.files import compiled, weights, weights_of_jobs
from endpoint.provision.serving import inferentia, lease
from endpoint.provision.serving.image import choose_image, known_image
from endpoint.provision.training import cap, stack
from endpoint.provision.training.capacity import choose_type


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("compile", "Compile a model for Inferentia2.")
    add_compile_options(parser)
    return parser


def compile_model(context: Context, options: CompileOptions) -> Result:
    """Start a job or join it, stop one, or list what there is."""
    if options.list:
        return _list(context)
    model = models.resolve(options.model)
    family = inferentia.family_of(model)
    _check_type(options, family)
    _refuse_refiner(model)
    weights.require_usable(model, context.console)
    stack.require_deployment(context)
    image = choose_image(context, options.image, family.serving_types()[0])
    adapter = _adapter(context, model, options.lora)
    target = _target(context, model, options, image, adapter)
    if options.stop:
        return _stop(context, target)
    job = CompileJob(context, target)
    made = _made(context, target) or job.result()
    if made is not None:
        return _result(context, options, family, made, "is compiled already")
    if job.runs:
        context.console.say(f"The job {job.name} runs already.")
    else:
        job.start(_plan(context, options, model, family, target, image, adapter))
    if context.dry_run:
        return Result({"id": target.id}, ["Dry run: nothing was uploaded or started."])
    made = _watch(context, job)
    context.console.say(f"The job has cost about {job.usd:.2f} USD.")
    return _result(context, options, family, made, "is compiled")


def _made(context: Context, target: Target) -> Compiled | None:
    there = compiled.every(context.bucket, target.model)
    return next((one for one in there if one.target == target), None)


def _watch(context: Context, job: CompileJob) -> Compiled:
    try:
        return job.watch()
    except KeyboardInterrupt:
        context.console.say(
            "The job goes on and costs money until it ends; the same command joins it, and with"
            " --stop ends it."
        )
        raise


# --- A new job -----------------------------------------------------------------------------------


def _check_type(options: CompileOptions, family: Compilable) -> None:
    """Refuse a type whose price or memory is unknown, or too small."""
    name = options.instance_type
    if name is None or name in family.compile_types():
        return
    kind = prices.cpu_types().get(name)
    if kind is None:
        raise BadArgument(
            f"The price and the memory of {name} are not known; compiling needs no accelerator.",
            f"Choose one of {', '.join(family.compile_types())}.",
        )
    raise BadArgument(
        f"{name} has {kind.ram_gib} GiB of memory; compiling a model of this kind needs"
        f" {family.compile_gib}.",
        f"Choose one of {', '.join(family.compile_types())}.",
    )


def _refuse_refiner(model: Model) -> None:
    """Refuse a folder with a refiner, which would be uploaded and be of no use."""
    if model.folder is not None and holds_model(model.folder / REFINER):
        raise BadArgument(
            f"{model.folder} has a refiner, and one accelerator has no room for both.",
            f"Move {REFINER} out of the folder.",
        )


def _adapter(
    context: Context, model: Model, lora: tuple[str, float] | None
) -> tuple[bytes, str] | None:
    """Return the content and the SHA-256 of the adapter to merge."""
    if lora is None:
        return None
    found = compiled.adapter(context.bucket, model.name, lora[0])
    if found is None:
        raise BadArgument(
            f"{model.name} has no adapter called {lora[0]}.",
            f"`python -m endpoint train --model {model.name} --name {lora[0]}` makes one; or put"
            f" the file below s3://{context.bucket.name}/loras/{model.name}/.",
        )
    return found


def _target(
    context: Context,
    model: Model,
    options: CompileOptions,
    image: Image,
    adapter: tuple[bytes, str] | None,
) -> Target:
    width, height = options.size or inferentia.usual_size(model)
    name, weight = options.lora or (None, 1.0)
    return Target(
        model=model.name,
        weights=compiled.weights_prefix(context, model),
        width=width,
        height=height,
        instance=options.instance,
        # Without the registry, which differs between regions.
        image=f"{image.repository}:{image.digest or image.tag}",
        lora=name,
        lora_weight=weight,
        lora_content=adapter[1] if adapter else "",
    )


def _plan(
    context: Context,
    options: CompileOptions,
    model: Model,
    family: Compilable,
    target: Target,
    image: Image,
    adapter: tuple[bytes, str] | None,
) -> Plan:
    """Choose the instance, calculate the price, and ask.

    Raises:
        QuotaTooSmall: if the account can run none of the instance types.
        ScriptError: if the monthly cap is reached, or will be before the job can end.
        Declined: if the operator does not confirm.
    """
    types = [options.instance_type] if options.instance_type else family.compile_types()
    lease.require_room(context, {"ProductionVariants": [{"InstanceType": types[0]}]})
    chosen = choose_type(context, types, spot=options.spot, on_demand="leave out --spot")
    price = prices.dearest([chosen])
    if price is None:
        raise ScriptError(f"The price of {chosen} is not known.", "Choose another --instance-type.")
    made = costs.estimate(
        family, price, spot=options.spot, most_seconds=cap.most_seconds(context, chosen)
    )
    left = cap.seconds_left(context, chosen)
    if made.seconds.low > left:
        raise ScriptError(
            f"The job takes at least {elapsed(made.seconds.low)}, but the monthly cap ends it after"
            f" {elapsed(left)}.",
            "Raise the cap with --monthly-cap of `create` or `deploy`.",
        )
    say = context.console.say
    how = "spot" if options.spot else "on demand"
    say(f"{model.title} ({target.title}), on one {chosen} ({how}).")
    say(
        f"It takes about {elapsed(made.seconds.expected)} ({elapsed(made.seconds.low)} to"
        f" {elapsed(made.seconds.most)}) and costs about {made.usd.expected:.2f} USD"
        f" ({made.usd.low:.2f} to {made.usd.most:.2f}); it is stopped after"
        f" {elapsed(made.max_runtime)}. Estimated, not measured. {prices.provenance([chosen])}"
    )
    if made.seconds.expected > left:
        say(f"The monthly cap ends it after {elapsed(left)}, which may be too early.")
    if model.refiner:
        say("Its refiner is not compiled: both together do not fit on one accelerator.")
    known = known_image(image)
    for trouble in known.known_trouble(context.clock.now().date()) if known else ():
        say(f"Image {image.uri}: {trouble.finding} ({trouble.source}).")
    if model.source and not weights_of_jobs.are_stored(context.bucket, model):
        say(
            "Its weights, several GB, are downloaded to this machine and uploaded to S3 once"
            " (0.023 USD per GB and month)."
        )
    context.console.ask(f"Compile {target.title} in {context.account.region}?")
    content = adapter[0] if adapter else None
    return Plan(model, target, content, image, chosen, made.max_runtime, made.max_wait)


# --- What there is -------------------------------------------------------------------------------


def _stop(context: Context, target: Target) -> Result:
    job = CompileJob(context, target)
    if not job.runs:
        return Result({"stopped": None}, [f"No job compiles {target.title}."])
    context.console.ask(f"Stop the compile job {job.name}?")
    job.stop()
    if context.dry_run:
        return Result({"stopped": job.name}, ["Dry run: nothing was stopped."])
    lines = [f"{job.name} is stopped; no instance runs for it. The command without --stop goes on."]
    return Result({"stopped": job.name}, lines)


def _list(context: Context) -> Result:
    there = compiled.every(context.bucket)
    running = context.training.running(compiled_models.sagemaker_prefix(context.name))
    names = [str(job["TrainingJobName"]) for job in running]
    lines = [f"{name}: runs" for name in names]
    lines += [f"{one.target.title}: {_place(context, one)}" for one in there]
    data = {"compiled": [_data(context, one) for one in there], "running": names}
    return Result(data, lines or ["Nothing is compiled, and nothing is being compiled."])


def _data(context: Context, one: Compiled) -> dict[str, Any]:
    target = one.target
    return {
        "id": target.id,
        "model": target.model,
        "lora": target.lora,
        "lora_weight": target.lora_weight if target.lora else None,
        "width": target.width,
        "height": target.height,
        "instance": target.instance,
        "compiler": one.compiler or None,
        "bytes": one.size,
        "place": f"s3://{context.bucket.name}/{one.root}",
    }


def _place(context: Context, one: Compiled) -> str:
    month = prices.storage_per_month(one.size)
    return (
        f"{one.size / 1e9:.2f} GB, {month:.2f} USD per month, in"
        f" s3://{context.bucket.name}/{one.root}"
    )


def _result(
    context: Context, options: CompileOptions, family: Compilable, made: Compiled, is_what: str
) -> Result:
    target = made.target
    serve = f"python -m endpoint create --model {options.model}"
    serve += f" --instance-type {family.serving_types()[0]}"
    serve += compiled.selection(options.lora, options.size, context.name)
    lines = [f"{target.title} {is_what}: {_place(context, made)}", f"`{serve}` serves it."]
    return Result(_data(context, made), lines)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), CompileOptions, compile_model, argv, **overrides)
