"""Train a LoRA adapter from a folder of pictures, on AWS.

    pictures   counted and looked at, with a contact sheet, before anything costs money
    price      what the job takes and costs; then a question
    job        pictures, weights and the trainer are uploaded, and an instance starts
    watching   the loss as a curve, the samples as they come, the cost so far
    adapter    checked, and published where the endpoint finds it

Watching can be left with Ctrl-C and joined again; the job does not depend on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from endpoint.aws.registry import Image
from endpoint.catalogue import images, models, prices, training
from endpoint.catalogue.models import Model
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import TrainOptions, add_train_options, common_parser
from endpoint.cli.script import Result
from endpoint.core.console import elapsed
from endpoint.core.generation import InvalidField
from endpoint.core.private_files import make_private_folder
from endpoint.core.problems import BadArgument, TrainingFailed
from endpoint.core.training_jobs import kohya, progress, request
from endpoint.core.training_jobs.job import Job
from endpoint.core.training_jobs.kohya import Row
from endpoint.core.training_jobs.price import (
    LONGEST_RUN,
    LONGEST_RUN_OF_OPERATOR,
    estimate,
)
from endpoint.core.training_jobs.state import Record
from endpoint.provision.files import weights_of_jobs
from endpoint.provision.gateway.gateway_project import PROJECTS
from endpoint.provision.training import job_status, jobs, setting, stack, trainer
from endpoint.provision.training.capacity import choose_type
from endpoint.provision.training.job_status import JobStatus
from endpoint.provision.training.jobs import Plan
from endpoint.provision.training.pictures import Report, contact_sheet, examine

_POLL_SECONDS = 5
# Between two curves where they cannot be drawn over one another, as in a CI log.
_QUIET_SECONDS = 60
# Above the longest job, with waiting for spot instances: 24 hours and one.
_MOST_WATCHED = 26 * 3_600


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("train", "Fine-tune a model with your pictures.", option="--deployment")
    add_train_options(parser)
    return parser


def train(context: Context, options: TrainOptions) -> Result:
    """Start a job, or list, watch, stop or resume one."""
    _require_one(options)
    if options.list:
        return _list(context)
    if options.stop:
        return _stop(context, options.stop)
    if options.resume:
        return _resume(context, options)
    if isinstance(options.watch, str):
        return watch(context, job_status.find(context, options.watch))
    plan = _plan(context, options)
    _ensure_stack(context, plan)
    record = jobs.start(context, plan)
    if context.dry_run:
        return Result({"id": None}, ["Dry run: nothing was uploaded or started."])
    if options.watch:
        return watch(context, record)
    lines = [
        f"The job {record.id} is started.",
        f"`python -m endpoint train --watch {record.name}` follows it, and publishes the adapter at"
        " its end; a gateway that was deployed with --training publishes it without that.",
        f"`python -m endpoint train --stop {record.name}` stops it.",
    ]
    return Result(job_status.check(context, record).to_dict(context.bucket.name), lines)


def _require_one(options: TrainOptions) -> None:
    """Refuse options that contradict each other.

    Raises:
        BadArgument: if there is not exactly one thing to do.
    """
    watched = options.watch if isinstance(options.watch, str) else None
    chosen = [bool(options.folder), options.list, bool(options.stop), bool(options.resume),
              bool(watched)]  # fmt: skip
    if sum(chosen) == 1:
        return
    if sum(chosen) > 1:
        raise BadArgument("Pass a folder of pictures, or one of --watch, --stop, --resume, --list.")
    raise BadArgument(
        "There is nothing to train.",
        "Pass a folder of pictures, or --watch, --stop or --resume with the name of a job, or"
        " --list.",
    )


# --- A new job -------------------------------------------------------------------------------


def _plan(context: Context, options: TrainOptions) -> Plan:
    """Look at the pictures, calculate the price, and ask.

    Raises:
        BadArgument: for whatever the trainer would refuse.
        Declined: if the operator does not confirm.
    """
    folder = options.folder or Path()
    model = models.resolve(options.model, options.revision)
    family = trainer.family_of(model)
    job, rows = _job(options, folder, family.resolution)
    side = job.resolution or family.resolution
    pictures = examine(folder, job, side)
    classes = None
    if options.class_pictures or any(one.of_class for one in job.sets):
        classes = examine(options.class_pictures or folder, job, side, of_class=True)
    _say_pictures(context, pictures, classes, _sheet_path(options, job.name))
    for row in rows:
        context.console.say(f"kohya: {row}")
    stack.require_deployment(context)
    jobs.require_free_name(context, model.name, job.name)

    spot = not options.on_demand
    types = [options.instance_type] if options.instance_type else list(family.instance_types)
    instance_type = choose_type(context, types, spot=spot, on_demand="pass --on-demand")
    seconds = training.seconds_per_step(family, instance_type)
    usd = prices.dearest([instance_type])
    if seconds is None or usd is None:
        raise BadArgument(
            f"The price and the speed of {instance_type} are not known.",
            f"Choose one of {', '.join(prices.instance_types())}.",
        )
    try:
        made = estimate(
            job,
            pictures=len(pictures.pictures),
            seconds_per_step=seconds,
            start_seconds=training.start_seconds(),
            resolution=family.resolution,
            usd_per_hour=usd,
            spot_share=training.spot_share() if spot else None,
            longest=LONGEST_RUN_OF_OPERATOR if options.long else LONGEST_RUN,
        )
    except InvalidField as error:
        raise BadArgument(
            f"--{error.field}: {error.reason}.", "" if options.long else "--long allows 24 hours."
        ) from error
    image = setting.training_image(context, options.image).uri
    plan = Plan(model, job, pictures, classes, made, image, instance_type, spot)
    _say_price(context, plan)
    context.console.ask(f"Train {job.name} in {context.account.region}?")
    return plan


def _job(options: TrainOptions, folder: Path, resolution: int) -> tuple[Job, list[Row]]:
    """Return what to train, and the report on kohya's file."""
    own = _own_fields(options)
    try:
        if options.kohya is None:
            _require_name(own)
            job = request.read_job(own, has_class_pictures=options.class_pictures is not None)
            return job, []
        config, prodigy = kohya.read([options.kohya]), trainer.has_prodigy()
        fields, _ = kohya.translate(config, prodigy=prodigy)
        # Epochs become steps, for which the pictures are counted.
        counted = examine(folder, Job.from_dict({**fields, **own}), resolution).repeated
        fields, rows = kohya.translate(config, counted, prodigy=prodigy)
        has_class = options.class_pictures is not None
        return request.read_job({**fields, **own}, has_class_pictures=has_class), rows
    except InvalidField as error:
        option = _OPTIONS.get(error.field, f"--{error.field.replace('_', '-')}")
        raise BadArgument(f"{option}: {error.reason}.") from error


def _own_fields(options: TrainOptions) -> dict[str, Any]:
    """Return the fields of the job that options set."""
    preserve = options.preserve
    if preserve is None and (options.class_pictures or options.class_prompt):
        preserve = "pictures" if options.class_pictures else "output"
    fields = {
        "name": options.adapter,
        "trigger": options.trigger,
        "instance_prompt": options.prompt,
        "class_prompt": options.class_prompt,
        "preserve": preserve,
        "steps": options.steps,
        "rank": options.rank,
        "rate": options.rate,
        "resolution": options.resolution,
        "seed": options.seed,
        "sample_prompts": list(options.sample_prompt) or None,
        "sample_every": options.sample_every,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _require_name(fields: dict[str, Any]) -> None:
    if "name" not in fields:
        raise BadArgument("--name is missing: the adapter's name, which `lora=` in a URL names.")


# Fields whose options have other names.
_OPTIONS = {"instance_prompt": "--prompt", "sample_prompts": "--sample-prompt"}


def _sheet_path(options: TrainOptions, name: str) -> Path:
    if options.contact_sheet:
        return options.contact_sheet
    return PROJECTS / "training" / f"{name}.png"


def _say_pictures(context: Context, pictures: Report, classes: Report | None, path: Path) -> None:
    """Print what was found, and write the contact sheet.

    Raises:
        BadArgument: if pictures cannot be used.
    """
    say = context.console.say
    sizes = sorted((one.width, one.height) for one in pictures.pictures if not one.problem)
    shown = (
        f", from {sizes[0][0]} x {sizes[0][1]} to {sizes[-1][0]} x {sizes[-1][1]}" if sizes else ""
    )
    kinds = sorted({one.format for one in pictures.pictures if one.format})
    say(f"{len(pictures.pictures)} pictures ({', '.join(kinds) or 'none can be used'}){shown}.")
    captions = {one.item.caption for one in pictures.pictures}
    if len(captions) == 1:
        say(f"All have the caption {next(iter(captions))!r}.")
    else:
        say(f"{len(captions)} different captions, such as {pictures.pictures[0].item.caption!r}.")
    if classes:
        say(f"{len(classes.pictures)} pictures of the class.")
    for note in (*pictures.notes, *(classes.notes if classes else ())):
        say(note)
    make_private_folder(PROJECTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures).save(path, format="PNG")
    say(f"Contact sheet: {path}")
    problems = pictures.problems + (classes.problems if classes else [])
    if problems:
        raise BadArgument(
            "These pictures cannot be used:\n  " + "\n  ".join(problems),
            "Remove or convert them, and run the same command again.",
        )


def _say_price(context: Context, plan: Plan) -> None:
    say, made = context.console.say, plan.estimate
    how = "spot" if plan.spot else "on demand"
    say(
        f"{plan.model.title}, {made.steps:,} steps on one {plan.instance_type} ({how}):"
        f" {elapsed(made.seconds.low)} to {elapsed(made.seconds.most)}, about"
        f" {elapsed(made.seconds.expected)}."
    )
    say(
        f"It costs about {made.usd.expected:.2f} USD ({made.usd.low:.2f} to {made.usd.most:.2f});"
        f" it is stopped after {elapsed(made.max_runtime)}. Computed, not measured."
        f" {prices.provenance()}"
    )
    if made.max_wait:
        wait = elapsed(made.max_wait - made.max_runtime)
        say(f"A spot instance can take up to {wait} to come, and be interrupted; --on-demand does"
            " neither.")  # fmt: skip
    known = images.by_content(*_repository_and_tag(plan.image))
    for trouble in known.trouble if known else ():
        say(f"Image {plan.image}: {trouble.finding} ({trouble.source}).")
    _say_weights(context, plan.model)


def _say_weights(context: Context, model: Model) -> None:
    if not model.source or weights_of_jobs.are_stored(context.bucket, model):
        return
    context.console.say(
        "Its weights, several GB, are downloaded to this machine and uploaded to S3 once"
        " (0.023 USD per GB and month)."
    )


def _repository_and_tag(uri: str) -> tuple[str, str | None, str | None]:
    name, _, digest = uri.partition("@")
    repository, _, tag = name.partition("/")[2].partition(":")
    return repository, tag or None, digest or None


def _ensure_stack(context: Context, plan: Plan) -> None:
    function = context.gateway.function(context.deployment.function)
    stack.ensure(
        context,
        Image.parse(plan.image),
        [plan.instance_type],
        gateway=function is not None
        and setting.VARIABLE in function.get("Environment", {}).get("Variables", {}),
    )


# --- Jobs that exist -------------------------------------------------------------------------


def _list(context: Context) -> Result:
    statuses = [job_status.check(context, record) for record in job_status.every(context)]
    lines = [
        f"{one.record.name} ({one.record.model}, {one.record.id}): {one.line()}" for one in statuses
    ]
    data = [one.to_dict(context.bucket.name) for one in statuses]
    for entry in data:
        del entry["loss"], entry["validation"]
    return Result({"jobs": data}, lines or ["There are no training jobs."])


def _stop(context: Context, which: str) -> Result:
    record = job_status.find(context, which)
    context.console.ask(f"Stop the training job {record.name} ({record.id})?")
    jobs.stop(context, record)
    if context.dry_run:
        return Result({"id": record.id}, ["Dry run: nothing was stopped."])
    now = job_status.check(context, record)
    lines = [
        f"{record.name}: {now.line()}.",
        f"No instance runs for it. `python -m endpoint train --resume {record.name}` goes on from"
        " its newest checkpoint.",
    ]
    return Result(now.to_dict(context.bucket.name), lines)


def _resume(context: Context, options: TrainOptions) -> Result:
    record = job_status.find(context, options.resume or "")
    spot = record.spot and not options.on_demand
    context.console.ask(
        f"Resume the training job {record.name} ({record.id}), for at most {record.usd_most:.2f}"
        " USD more?"
    )
    again = jobs.resume(context, record, spot=spot)
    if context.dry_run:
        return Result({"id": record.id}, ["Dry run: nothing was started."])
    if options.watch:
        return watch(context, again)
    lines = [
        f"The job {record.id} goes on.",
        f"`python -m endpoint train --watch {record.name}` follows it.",
    ]
    return Result(job_status.check(context, again).to_dict(context.bucket.name), lines)


def watch(context: Context, record: Record) -> Result:
    """Follow a job until it ends, and publish its adapter; Ctrl-C leaves it running.

    Raises:
        TrainingFailed: if the job fails, or its adapter cannot be used.
    """
    shown: set[str] = set()
    folder = PROJECTS / "training" / record.id
    now = job_status.check(context, record)
    last = -float(_QUIET_SECONDS)

    def poll() -> str | None:
        nonlocal now, last
        now = job_status.check(context, job_status.read(context, record.id) or record)
        for step, key in now.samples.items():
            if key not in shown:
                shown.add(key)
                path = job_status.download(context, key, folder)
                context.console.say(
                    f"samples of step {step:,}: {path} (s3://{context.bucket.name}/{key})"
                )
        moment = context.clock.monotonic()
        if now.progress.loss and (context.console.overwrites or moment - last >= _QUIET_SECONDS):
            last = moment
            context.console.draw(progress.curve(now.progress, steps=record.steps))
        ended = now.state.is_final or now.state.name == "completed"
        return None if ended else now.line()

    try:
        context.waiting.until_done(poll, at_most=_MOST_WATCHED, every=_POLL_SECONDS)
        return _ended(context, now)
    except KeyboardInterrupt:
        lines = [
            f"{record.name}: {now.line()}.",
            f"The job goes on. `python -m endpoint train --watch {record.name}` joins it again, and"
            f" `python -m endpoint train --stop {record.name}` stops it.",
        ]
        return Result(now.to_dict(context.bucket.name), lines)


def _ended(context: Context, now: JobStatus) -> Result:
    record, bucket = now.record, context.bucket.name
    if now.state.name == "failed":
        jobs.release(context, record)
        raise TrainingFailed(
            f"The training job {record.name} failed: {now.state.error}",
            f"It has cost {now.cost:.2f} USD. `python -m endpoint train --resume {record.name}`"
            " goes on from its newest checkpoint.",
        )
    if now.state.name == "stopped":
        jobs.release(context, record)
        lines = [f"{record.name}: {now.line()}.",
                 f"`python -m endpoint train --resume {record.name}` goes on."]  # fmt: skip
        return Result(now.to_dict(bucket), lines, good=False)
    if now.state.name == "completed" and not context.dry_run:
        context.begin(f"adapter {record.name} of {record.model}: checked and published")
        jobs.publish(context, record)
        now = job_status.check(context, job_status.read(context, record.id) or record)
    address = now.to_dict(bucket)["result"]
    lines = [
        f"{record.name} is trained and published: {address}",
        f"It has cost about {now.cost:.2f} USD. Use it with `lora={record.name}` in a URL:",
        f"  .../inference/a house?model={record.model}&lora={record.name}",
    ]
    return Result(now.to_dict(bucket), lines)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), TrainOptions, train, argv, **overrides)
