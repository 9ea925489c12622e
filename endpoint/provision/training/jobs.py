"""The operator's training jobs: start, stop, resume, publish.

    pictures   as 0001.png and 0001.txt, so that no name or text of a person is a part of a key
    job.json   the only place with text from people
    claim      of the adapter's name, by S3's conditional put
    record     what SageMaker's description does not have
    job        from here on it costs money

A job that fails or is stopped before it is published gives its name back.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

from endpoint.catalogue import training
from endpoint.catalogue.models import Model
from endpoint.cli.context import Context
from endpoint.core.problems import AGAIN, BadArgument, ScriptError, TrainingFailed
from endpoint.core.training_jobs import places, request
from endpoint.core.training_jobs.adapter_file import LARGEST, AdapterUnusable, check
from endpoint.core.training_jobs.dataset import set_of
from endpoint.core.training_jobs.job import Job
from endpoint.core.training_jobs.price import Estimate
from endpoint.core.training_jobs.state import Record
from endpoint.provision.files import weights_of_jobs
from endpoint.provision.training import job_status, trainer
from endpoint.provision.training.pictures import Picture, Report

_SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


@dataclass(frozen=True)
class Plan:
    """A job that can be started.

    Attributes:
        model: the model to train.
        job: what to train.
        pictures: of the data set.
        class_pictures: of the class, if there are any.
        estimate: what it takes and costs.
        image: the URI of the training image.
        instance_type: such as ml.g5.xlarge.
        spot: whether to use spot instances.
    """

    model: Model
    job: Job
    pictures: Report
    class_pictures: Report | None
    estimate: Estimate
    image: str
    instance_type: str
    spot: bool


def start(context: Context, plan: Plan) -> Record:
    """Upload everything, and start the job.

    Raises:
        BadArgument: if the adapter's name is taken.
        ScriptError: if AWS refuses a step; the name is given back.
    """
    code = trainer.ensure_code(context.bucket)
    weights = weights_of_jobs.ensure(context, plan.model)
    identifier, dataset = places.new_id(), places.new_id()
    record = _record(context, plan, identifier, dataset)
    _claim(context, record)
    try:
        _upload(context, dataset, plan.pictures, plan.job, "pictures")
        classes = None
        if plan.class_pictures:
            other = places.new_id()
            _upload(context, other, plan.class_pictures, plan.job, "pictures of the class")
            classes = places.dataset(places.OPERATOR, other)
        content = request.job_json(
            _uploaded(plan.job), steps=plan.estimate.steps, usd_per_hour=plan.estimate.usd_per_hour
        )
        _put(context, places.job_file(identifier), content)
        _put(context, places.record(identifier), record.to_json())
        context.begin(f"training job {record.sagemaker_job}")
        context.training.start(
            request.create_training_job(
                record.sagemaker_job,
                bucket=context.bucket.name,
                deployment=context.name,
                owner=record.owner,
                role=context.deployment.training_role,
                image=plan.image,
                instance_type=plan.instance_type,
                code=code,
                job=places.job_channel(identifier),
                pictures=places.dataset(places.OPERATOR, dataset),
                weights=weights,
                checkpoints=places.checkpoints(identifier),
                output=places.output(identifier),
                max_runtime=plan.estimate.max_runtime,
                max_wait=plan.estimate.max_wait,
                class_pictures=classes,
            )
        )
    except BaseException:
        # A name that no job will use must be free again, whatever stopped this.
        if context.training.find(record.sagemaker_job) is None:
            release(context, record)
        raise
    return record


def _record(context: Context, plan: Plan, identifier: str, dataset: str) -> Record:
    return Record(
        id=identifier,
        owner=places.OPERATOR,
        model=plan.model.name,
        name=plan.job.name,
        dataset=dataset,
        instance_type=plan.instance_type,
        spot=plan.spot,
        usd_per_hour=plan.estimate.usd_per_hour,
        usd_most=plan.estimate.usd.most,
        steps=plan.estimate.steps,
        pictures=len(plan.pictures.pictures),
        max_runtime=plan.estimate.max_runtime,
        max_wait=plan.estimate.max_wait,
        created=context.clock.now().timestamp(),
        sagemaker_job=places.sagemaker_name(context.name, identifier, 1),
    )


def require_free_name(context: Context, model: str, name: str) -> None:
    """Raise BadArgument if an adapter of this name exists, or is being trained."""
    if context.bucket.current(places.adapter(model, name)) is not None:
        raise BadArgument(
            f"{model} has an adapter called {name} already.",
            f"Choose another --name, or delete s3://{context.bucket.name}/"
            f"{places.adapter(model, name)}.",
        )
    holder = _holder(context, model, name)
    if holder is not None:
        raise BadArgument(
            f"The name {name} is taken by the training job {holder}.",
            f"Choose another --name, or stop it: `python -m endpoint train --stop {holder}`.",
        )


def _holder(context: Context, model: str, name: str) -> str | None:
    """Return the job that has claimed a name, unless it has ended without an adapter."""
    claim = context.bucket.get(places.name_claim(model, name))
    if claim is None:
        return None
    try:
        identifier = str(json.loads(claim)["id"])
        record = job_status.read(context, identifier) if places.is_id(identifier) else None
    except (ValueError, KeyError, TypeError):
        record = None
    if record is None:
        return None
    ended = job_status.check(context, record).state.name in {"failed", "stopped"}
    return None if ended and record.owner == places.OPERATOR else record.id


def _claim(context: Context, record: Record) -> None:
    key = places.name_claim(record.model, record.name)
    claim = {"owner": record.owner, "id": record.id, "since": context.clock.now().timestamp()}
    content = json.dumps(claim).encode()
    require_free_name(context, record.model, record.name)
    if context.dry_run:
        return
    if context.bucket.get(key) is not None:  # of a job that has ended
        context.bucket.delete([key])
    if not context.bucket.put_new(key, content):
        raise BadArgument(f"The name {record.name} has just been taken.", "Choose another --name.")


def release(context: Context, record: Record) -> None:
    """Give an adapter's name back, if it is this job's."""
    if context.dry_run:
        return
    key = places.name_claim(record.model, record.name)
    claim = context.bucket.get(key) or b""
    if record.id.encode() in claim:
        context.bucket.delete([key])


def _upload(context: Context, dataset: str, report: Report, job: Job, what: str) -> None:
    """Store pictures and captions under names of our own, and show how far it is."""
    prefix = places.dataset(places.OPERATOR, dataset)
    total = sum(one.item.path.stat().st_size for one in report.pictures)
    context.begin(f"{len(report.pictures)} {what}, {total / 1e6:.1f} MB")
    if context.dry_run:
        return
    started, sent = context.clock.monotonic(), 0
    for number, one in enumerate(report.pictures, 1):
        stem = f"{prefix}{_folder(one, report.folder, job)}{number:04}"
        body = one.item.path.read_bytes()
        context.bucket.put(f"{stem}{_SUFFIX[one.format]}", body)
        context.bucket.put(f"{stem}.txt", one.item.caption.encode())
        sent += len(body)
        share = f"{sent / 1e6:.1f} of {total / 1e6:.1f} MB"
        context.console.waiting(f"{number} of {len(report.pictures)} {what}, {share}", started)


def _folder(one: Picture, root: Path, job: Job) -> str:
    """Return where a picture is in the data set: in its set's folder under a name of our own."""
    own = set_of(one.item.path.relative_to(root).as_posix(), job)
    place, repeats = "", job.repeats
    if own is not None and own.of_class:
        repeats = 1  # of the channel of the class
    elif own is not None:
        place = f"set-{job.sets.index(own) + 1}/"
        repeats = job.repeats if own.repeats is None else own.repeats
    # Kohya's form of repeats, where they differ from those.
    return place if one.item.repeats == repeats else f"{place}{one.item.repeats}_pictures/"


def _uploaded(job: Job) -> Job:
    """Return the job with what the upload has made of captions and sets.

    Pictures of the class are in a channel of their own.
    """
    sets = [
        replace(one, folder=f"set-{number}")
        for number, one in enumerate(job.sets, 1)
        if not one.of_class
    ]
    return replace(job, captions="files", sets=tuple(sets))


def _put(context: Context, key: str, body: bytes) -> None:
    if not context.dry_run:
        context.bucket.put(key, body)


# --- Jobs that exist -------------------------------------------------------------------------


def stop(context: Context, record: Record) -> None:
    """Stop a job; its checkpoints stay, so that it can be resumed."""
    now = job_status.check(context, record)
    if now.state.is_final or now.state.name == "completed":
        raise BadArgument(f"The job {record.id} is {now.state.name} already.")
    if not record.sagemaker_job:
        raise BadArgument(
            f"The pipeline has not started the job {record.id} yet.", "Try again in a minute."
        )
    context.begin(f"training job {record.sagemaker_job}: stopped")
    _put(context, places.record(record.id), replace(record, cancelled=True).to_json())
    context.training.stop_and_wait([record.sagemaker_job])
    release(context, record)


def resume(context: Context, record: Record, *, spot: bool) -> Record:
    """Start a job again from its newest checkpoint; return its record.

    Raises:
        BadArgument: if it has not ended, or is published.
        ScriptError: if SageMaker has forgotten it.
    """
    now = job_status.check(context, record)
    if now.state.name not in {"failed", "stopped"}:
        raise BadArgument(
            f"The job {record.id} is {now.state.name}; only one that failed or was stopped can be"
            " resumed."
        )
    before = context.training.find(record.sagemaker_job) if record.sagemaker_job else None
    if before is None:
        raise ScriptError(f"SageMaker has no job of {record.id} any more.", "Start a new one.")
    holder = _holder(context, record.model, record.name)
    if holder not in {None, record.id}:
        raise BadArgument(f"The name {record.name} is used by the job {holder} now.")
    attempt = record.attempt + 1
    wait = record.max_runtime + 3_600 if spot else None
    share = training.spot_share()
    full = record.usd_per_hour / (share if record.spot else 1.0)
    again = replace(
        record,
        attempt=attempt,
        sagemaker_job=places.sagemaker_name(context.name, record.id, attempt),
        spot=spot,
        usd_per_hour=full * (share if spot else 1.0),
        max_wait=wait,
        cancelled=False,
        error="",
        spent=now.cost,
        ended=None,
        execution="",
    )
    if not context.dry_run:
        release(context, record)
        _claim(context, again)
    context.begin(f"training job {again.sagemaker_job}, from step {now.progress.step}")
    context.training.start(
        request.next_attempt(
            before,
            again.sagemaker_job,
            deployment=context.name,
            owner=record.owner,
            max_wait=wait,
        )
    )
    # After the start: a record must not name a job that SageMaker has refused.
    _put(context, places.record(record.id), again.to_json())
    return again


def publish(context: Context, record: Record) -> Record:
    """Check the adapter of a completed job, and put it where the endpoint finds it.

    Raises:
        TrainingFailed: if there is no adapter, or it cannot be used.
    """
    key = _result(context, record)
    body = context.bucket.get(key) or b""
    try:
        check(io.BytesIO(body), len(body))
    except AdapterUnusable as error:
        raise TrainingFailed(str(error), "Its other files stay in the bucket.") from error
    target = places.adapter(record.model, record.name)
    # The gateway may have been the first.
    if not context.bucket.put_new(target, body) and context.bucket.get(target) != body:
        raise TrainingFailed(
            f"{target} exists, with another content.", "Train it again under another --name."
        )
    done = replace(record, published=context.clock.now().timestamp())
    _put(context, places.record(record.id), done.to_json())
    return done


def _result(context: Context, record: Record) -> str:
    sizes = context.bucket.sizes(places.output(record.id))
    keys = [key for key in sizes if places.is_result(key, record.name)]
    if not keys:
        raise TrainingFailed(
            f"The job {record.id} is completed, and has left no adapter.",
            f"Look into s3://{context.bucket.name}/{places.output(record.id)}. {AGAIN}",
        )
    # Of several attempts, the last one that was completed.
    key = max(keys, key=lambda one: one.split("/")[-4:])
    if sizes[key] > LARGEST:
        raise TrainingFailed(f"The adapter has {sizes[key]:,} bytes; {LARGEST:,} are allowed.")
    return key
