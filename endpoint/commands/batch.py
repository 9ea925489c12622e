"""Paint a file of prompts into a folder of pictures, however often it is interrupted.

    file      read as a whole, or refused with the numbers of its wrong lines
    price     how many pictures, how long, how many dollars, until when; then a question
    pictures  through the deployment's endpoint, through the URL of a gateway (--local), or by a
              managed-spot job (--spot)
    results   results.jsonl in the shape of OpenAI's batch output, and a contact sheet

The same command continues after Ctrl-C, a crash, or an hour without a network: what is in the
folder, or has come to S3 meanwhile, is not painted again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from endpoint.catalogue import models, prices, training
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import CommonOptions, common_parser, count, instance_type, read
from endpoint.cli.script import Result
from endpoint.core.batches import lines as files
from endpoint.core.batches import results
from endpoint.core.batches.lines import FileRefused, Line, ModelFacts, Picture
from endpoint.core.batches.openai import side_step
from endpoint.core.clock import Clock
from endpoint.core.console import Console, elapsed
from endpoint.core.generation import GenerationRequest
from endpoint.core.problems import BadArgument, UploadFailed
from endpoint.core.usage_records import Kind
from endpoint.costs import batch as costs
from endpoint.costs.batch import Estimate
from endpoint.provision.backends import EASEL, Served
from endpoint.provision.batches import deployed, spot
from endpoint.provision.batches.deployed import Deployed
from endpoint.provision.batches.direct import Direct
from endpoint.provision.batches.folder import RESULTS, Folder, opened
from endpoint.provision.batches.local import Gateway
from endpoint.provision.batches.run import Run
from endpoint.provision.batches.sheet import write_sheet
from endpoint.provision.batches.spot import Definition, SpotJob
from endpoint.provision.batches.usage import Usage
from endpoint.provision.batches.window import Window

_REAL_TIME_AT_ONCE = 8
# On one machine, the model computes one picture while the other is on its way.
_LOCAL_AT_ONCE = 2
_NAMED = 5  # files and failures that are named; the rest is counted


@dataclass(frozen=True)
class BatchOptions(CommonOptions):
    """What to paint, where to, and through what.

    Attributes:
        local: the URL of a gateway; None for the deployment.
        spot: whether a managed-spot job paints.
        most_instances: of the asynchronous endpoint while it paints; None leaves it as it is.
        instance_type: of a managed-spot job.
        stop: stop the batch's managed-spot job.
    """

    file: Path
    out: Path
    model: str | None
    local: str | None
    spot: bool
    most_instances: int | None
    instance_type: str | None
    stop: bool


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("batch", "Generate the pictures of a file of prompts into a folder.")
    add = parser.add_argument
    add("file", type=Path, help="prompts: .txt, .csv with a header, or .jsonl")
    add("--out", type=Path, required=True, metavar="FOLDER", help="for pictures and results.jsonl")
    add("--model", help="the model (default: the deployment's only one)")
    add("--local", metavar="URL", help="use a gateway, such as that of `./setup.sh run`")
    add("--spot", action="store_true", help="use a spot instance of its own, with checkpoints")
    most = "limit of the asynchronous endpoint during the batch (default: its own)"
    add("--most-instances", type=count, metavar="N", help=most)
    add("--instance-type", type=instance_type, help="with --spot (default: the model's first)")
    add("--stop", action="store_true", help="stop the managed-spot job of this batch")
    return parser


def batch(context: Context, options: BatchOptions) -> Result:
    """Paint the file with the deployment."""
    if options.spot or options.stop:
        return _batch_on_spot(context, options)
    if options.instance_type:
        raise BadArgument("--instance-type is for --spot; an endpoint has its own.")
    endpoint = deployed.find(context, options.model, options.most_instances)
    names = [endpoint.model, *_others(context, endpoint.model)]
    lines = _for_backend(options, _read(options, names, endpoint.served), endpoint.served)
    _say_counts(context.console, options, lines)
    if context.dry_run:
        deployed.require_ready(context, endpoint)
        made = _estimate(_requests(lines), endpoint)
        _say_estimate(context.console, context.clock, endpoint, made)
        return Result({"pictures": _count(lines)}, ["Dry run: nothing is generated."])
    with opened(options.out, lines) as folder:
        run = _start(context.console, context.clock, folder)
        window = _recovered(context, run, endpoint)
        if run.left:
            made = _estimate([task.picture.request for task in run.left.values()], endpoint)
            _say_estimate(context.console, context.clock, endpoint, made)
            context.console.ask(f"Paint {len(run.left):,} pictures?")
            run.usd_per_hour = made.usd_per_hour
            _paint(context, run, endpoint, window)
        return _result(folder, run)


def batch_locally(console: Console, clock: Clock, options: BatchOptions) -> Result:
    """Paint the file through the URL of a gateway."""
    gateway = Gateway(options.local or "")
    names = gateway.models()
    if options.model and options.model not in names:
        raise BadArgument(f"--model {options.model}: {gateway.url} has {', '.join(names)}.")
    first = options.model or names[0]
    lines = _read(options, [first, *(name for name in names if name != first)], several=True)
    _say_counts(console, options, lines)
    if options.dry_run:
        return Result({"pictures": _count(lines)}, ["Dry run: nothing is generated."])
    with opened(options.out, lines) as folder:
        run = _start(console, clock, folder)
        if run.left:
            console.ask(f"Paint {len(run.left):,} pictures through {gateway.url}?")
            Direct(run, clock, gateway.paint, _LOCAL_AT_ONCE).paint()
        return _result(folder, run)


def _batch_on_spot(context: Context, options: BatchOptions) -> Result:
    """Paint the file with a managed-spot job, or stop that job."""
    if options.most_instances:
        raise BadArgument(
            "--most-instances is for asynchronous endpoints; --spot has one instance."
        )
    definition = spot.find(context, options.model, options.instance_type)
    lines = _read(options, [definition.model, *_others(context, definition.model)])
    _say_counts(context.console, options, lines)
    if context.dry_run:
        definition = spot.with_room(context, definition)
        _say_spot(context, definition, _estimate_spot(_requests(lines), definition))
        return Result({"pictures": _count(lines)}, ["Dry run: nothing is generated."])
    with opened(options.out, lines) as folder:
        run = _start(context.console, context.clock, folder)
        job = SpotJob(context, run, definition)
        if options.stop:
            return _stop(context, job, run)
        if run.left:
            job.collect()
            _say_collected(context.console, run)
        if run.left:
            job.prepare()
            requests = [task.picture.request for task in run.left.values()]
            made = _estimate_spot(requests, job.definition)
            run.usd_per_hour = made.usd_per_hour
            _say_spot(context, job.definition, made)
            context.console.ask(f"Paint {len(run.left):,} pictures on a spot instance?")
            try:
                job.paint(made.seconds)
            except KeyboardInterrupt:
                context.console.say(
                    "The job goes on and costs money until it ends; the same command joins it, and"
                    " with --stop ends it."
                )
                raise
        return _result(folder, run)


def _stop(context: Context, job: SpotJob, run: Run) -> Result:
    context.console.ask("Stop the managed-spot job of this batch?")
    name = job.stop()
    text = f"{name} is stopped" if name else "No job of this batch runs"
    done = run.total - len(run.left)
    return Result(
        {"stopped": name, "pictures": run.total, "done": done},
        [f"{text}; {done:,} of {run.total:,} pictures are in {run.folder.path}."],
    )


# --- The file ------------------------------------------------------------------------------------


def _read(
    options: BatchOptions,
    names: Sequence[str],
    served: Served | None = None,
    *,
    several: bool = False,
) -> list[Line]:
    """Return the lines of the file.

    Args:
        options: with the file.
        names: of the models on offer; the first is that of lines that name none.
        served: how the first is asked; None for one in Easel's own container.
        several: whether the lines may name different models.

    Raises:
        UploadFailed: if the file cannot be read.
        BadArgument: if it is refused.
    """
    try:
        content = options.file.read_bytes()
    except OSError as error:
        raise UploadFailed(f"{options.file} cannot be read: {error.strerror}.") from error
    listed = models.read()
    facts = {
        name: ModelFacts(int(listed[name].defaults["steps"]))
        for name in names
        if name in listed and "steps" in listed[name].defaults
    }
    if served is not None and served.backend.name != EASEL:
        backend, steps = served.backend, served.defaults.get("steps")
        abilities = backend.abilities
        step = side_step(abilities.rules)
        facts[names[0]] = ModelFacts(steps, abilities.formats[0], backend.repeats, step)
    try:
        lines = files.read_file(options.file.suffix.lower(), content, names, facts)
    except FileRefused as error:
        faults = "\n  ".join(map(str, error.faults))
        raise BadArgument(f"{options.file} cannot be used:\n  {faults}") from error
    others = [line for line in lines if line.pictures[0].request.model != names[0]]
    if others and not several:
        raise BadArgument(
            f"{options.file}: line {others[0].number} names the model"
            f" {others[0].pictures[0].request.model}, and this batch uses {names[0]}.",
            "Make a file, and a batch with --model, for each model.",
        )
    return lines


def _for_backend(options: BatchOptions, lines: list[Line], served: Served) -> list[Line]:
    """Return the lines with what the endpoint's backend has to be sent.

    Raises:
        BadArgument: if it cannot carry them out.
    """
    if served.backend.name == EASEL:
        return lines
    prepared, faults = [], []
    for line in lines:
        try:
            pictures = tuple(_prepared(picture, served) for picture in line.pictures)
            prepared.append(replace(line, pictures=pictures))
        except BadArgument as error:
            faults.append(f"line {line.number}: {error}")
    if faults:
        more = f"\n  and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
        listed = "\n  ".join(faults[:_NAMED])
        raise BadArgument(f"{options.file} cannot be used:\n  {listed}{more}")
    return prepared


def _prepared(picture: Picture, served: Served) -> Picture:
    request = GenerationRequest.from_dict(served.prepared(picture.request.to_dict()))
    return replace(picture, request=request)


def _count(lines: Sequence[Line]) -> int:
    return sum(len(line.pictures) for line in lines)


def _say_counts(console: Console, options: BatchOptions, lines: Sequence[Line]) -> None:
    console.say(f"{options.file}: {len(lines):,} lines, {_count(lines):,} pictures.")


def _start(console: Console, clock: Clock, folder: Folder) -> Run:
    run = Run(folder, console, clock)
    there = run.total - len(run.left)
    if there:
        console.say(f"{there:,} of them are in {folder.path} already.")
    others = folder.others()
    if others:
        more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
        console.say(
            f"These files in {folder.path} are of other requests and will be replaced:"
            f" {', '.join(others[:_NAMED])}{more}."
        )
    return run


def _others(context: Context, model: str) -> list[str]:
    """Return the deployment's other models."""
    names = [context.deployment.model_of(name) for name in context.endpoint_names()]
    return [name for name in names if name != model]


# --- The price -----------------------------------------------------------------------------------


def _requests(lines: Sequence[Line]) -> list[GenerationRequest]:
    return [picture.request for line in lines for picture in line.pictures]


def _estimate(requests: Sequence[GenerationRequest], endpoint: Deployed) -> Estimate:
    seconds = costs.painting_seconds(requests, endpoint.model, endpoint.instance_type)
    way = costs.real_time if endpoint.output is None else costs.asynchronous
    return way(seconds, len(requests), endpoint.instance_type, endpoint.instances)


def _estimate_spot(requests: Sequence[GenerationRequest], definition: Definition) -> Estimate:
    seconds = costs.painting_seconds(requests, definition.model, definition.instance_type)
    return costs.spot(
        seconds,
        len(requests),
        definition.instance_type,
        training.start_seconds(),
        training.spot_share(),
    )


def _say_spot(context: Context, definition: Definition, made: Estimate) -> None:
    price = prices.in_words(prices.dearest([definition.instance_type]))
    context.console.say(
        f"{definition.model} on one spot {definition.instance_type}, expected at"
        f" {training.spot_share():.0%} of {price}."
    )
    _say_time_and_price(context.console, context.clock, made)


def _say_estimate(console: Console, clock: Clock, endpoint: Deployed, made: Estimate) -> None:
    kind = "in real time" if endpoint.output is None else "asynchronous"
    most = "" if endpoint.output is None else "at most "
    console.say(
        f"{endpoint.name}: {kind}, {most}{endpoint.instances} {endpoint.instance_type}"
        f" ({prices.in_words(prices.dearest([endpoint.instance_type]))} each)."
    )
    _say_time_and_price(console, clock, made)


def _say_time_and_price(console: Console, clock: Clock, made: Estimate) -> None:
    if made.seconds is None:
        console.say(
            "No benchmark is published for this model and instance type, so time and price are"
            " unknown; both are shown once a few pictures are generated."
        )
        return
    until = clock.now() + timedelta(seconds=made.seconds)
    usd = "an unknown price" if made.usd is None else f"about {made.usd:.2f} USD"
    console.say(
        f"About {elapsed(made.seconds)}, until {until:%Y-%m-%d %H:%M} UTC, and {usd}. Computed,"
        f" not measured. {prices.provenance()}"
    )


# --- The pictures --------------------------------------------------------------------------------


def _recovered(context: Context, run: Run, endpoint: Deployed) -> Window | None:
    """Return the window of an asynchronous endpoint, after what has come is collected.

    Raises:
        ScriptError: if pictures are left, and the endpoint is stopped or the monthly cap reached.
    """
    if endpoint.output is None or not run.left:
        return None
    requests = [task.picture.request for task in run.left.values()]
    price = prices.dearest([endpoint.instance_type])
    window = Window(
        context,
        run,
        endpoint=endpoint.name,
        output=endpoint.output,
        version=endpoint.version,
        instances=endpoint.instances,
        seconds=_estimate(requests, endpoint).each,
        usage=Usage(context, endpoint.model, Kind.ASYNCHRONOUS, price),
        backend=endpoint.served.backend,
    )
    window.recover()
    _say_collected(context.console, run)
    if run.left:
        deployed.require_ready(context, endpoint, queues=window.waiting < len(run.left))
    return window


def _say_collected(console: Console, run: Run) -> None:
    if run.painted:
        console.say(f"{run.painted:,} more were generated meanwhile, and are fetched.")


def _paint(context: Context, run: Run, endpoint: Deployed, window: Window | None) -> None:
    if window is None:
        price = prices.dearest([endpoint.instance_type])
        usage = Usage(context, endpoint.model, Kind.REALTIME, price)
        work = deployed.in_real_time(context, endpoint, usage)
        renew = deployed.renewal(context, endpoint)
        Direct(run, context.clock, work, _REAL_TIME_AT_ONCE, renew).paint()
        return
    try:
        with deployed.scaled_out(context, run.folder, endpoint):
            window.paint()
    except KeyboardInterrupt:
        context.console.say(
            f"{window.waiting:,} requests are in the queue of {endpoint.name}, which still"
            " generates them; the same command collects them."
        )
        raise


# --- The result ----------------------------------------------------------------------------------


def _result(folder: Folder, run: Run) -> Result:
    sheet = write_sheet(folder)
    failed = [
        line for line in folder.lines if not results.is_success(folder.results[line.custom_id])
    ]
    seconds = round(run.seconds)
    rate = f" in {elapsed(seconds)}" if run.painted else ""
    # A line that failed can have stored some of its pictures.
    stored = sum(folder.has(picture) for line in folder.lines for picture in line.pictures)
    text = [
        f"{stored:,} of {run.total:,} pictures are in {folder.path};"
        f" {run.painted:,} were generated now{rate}.",
        f"Results: {folder.path / RESULTS}",
        f"Contact sheet: {sheet}",
    ]
    for line in failed[:_NAMED]:
        reason = results.message_of(folder.results[line.custom_id])
        text.append(f"line {line.number} ({line.custom_id}) failed: {reason}")
    if failed:
        text.append(
            f"{len(failed):,} lines failed; the same command retries them, and nothing else."
        )
    data = {
        "lines": len(folder.lines),
        "pictures": run.total,
        "painted": run.painted,
        "failed": len(failed),
        "seconds": seconds,
        "out": str(folder.path),
        "results": str(folder.path / RESULTS),
        "contact_sheet": str(sheet),
    }
    return Result(data, text, good=not failed)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    options = read(BatchOptions, parser().parse_args(argv))
    if options.local is not None:
        return script.run_without_aws(
            options,
            lambda console, clock: batch_locally(console, clock, options),
            overrides.get("clock"),
        )
    return script.run(parser(), BatchOptions, batch, argv, **overrides)
