"""A batch as a managed-spot job: SageMaker starts it, and starts it again after an interruption.

The job paints with the model's files, serving code, image and settings of the endpoint, so that its
pictures are the endpoint's; the endpoint itself does not run for it. Its checkpoints are the
pictures, which SageMaker copies to S3 while it paints and gives back to it after an interruption.
They are fetched from there as they come.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from endpoint.aws.models import instance_types
from endpoint.aws.registry import Image
from endpoint.catalogue import prices, quantisation, training
from endpoint.catalogue.models import NONE
from endpoint.cli.context import Context
from endpoint.core.batches import places
from endpoint.core.console import elapsed
from endpoint.core.picture_files import is_whole
from endpoint.core.problems import ScriptError, TrainingFailed
from endpoint.core.training_jobs import request, state
from endpoint.core.training_jobs.places import OPERATOR
from endpoint.core.usage_records import Kind
from endpoint.provision.batches.deployed import choose, newest_config
from endpoint.provision.batches.run import Run
from endpoint.provision.batches.usage import Recorded, Usage
from endpoint.provision.files import payload, weights_of_jobs
from endpoint.provision.files.payload import File
from endpoint.provision.model_metadata import BACKEND
from endpoint.provision.serving import lease
from endpoint.provision.training import cap, stack
from endpoint.provision.training.capacity import choose_type

_PACKAGE = Path(__file__).parents[3] / "model_package" / "batch"
_INPUT = "/opt/ml/input/data"
ENTRYPOINT = ["python3", "-m", "batch"]
_FAILURES, _PAINTED = "failures.jsonl", "painted.jsonl"
# SageMaker's default quota for the longest run is five days.
_LONGEST_RUN, _SHORTEST_RUN = 432_000, 3_600
_UNKNOWN_RUN = 86_400
_SPARE_RUN = 1_800.0
# For an instance to come, again after each interruption.
_MOST_WAIT = 86_400
_GIB_FOR_SYSTEM, _PICTURES_PER_GIB = 60, 300
# One LIST reads a thousand keys: a large batch is looked at less often.
_POLL_SECONDS, _MOST_POLL_SECONDS = 5.0, 60.0
_ENDED = {"Completed", "Failed", "Stopped"}


@dataclass(frozen=True)
class Definition:
    """What a job paints with: the endpoint's own model.

    Attributes:
        model: its name in requests.
        version: of the endpoint's configuration.
        image: the serving image's URI.
        data: the prefix of the model's files, which include the serving code.
        environment: the container's.
        types: that may be painted on.
        instance_type: that paints; `with_room` chooses it among the types.
        has_weights: whether the weights are among the files; else the container fetches them.
        most_seconds: that the monthly cap leaves for the job; infinite without a cap.
    """

    model: str
    version: str
    image: str
    data: str
    environment: Mapping[str, str]
    types: Sequence[str]
    instance_type: str
    has_weights: bool
    most_seconds: float = math.inf


def find(context: Context, model: str | None, instance_type: str | None) -> Definition:
    """Return what to paint with; the endpoint may be stopped.

    Args:
        context: the deployment.
        model: None for the deployment's only one.
        instance_type: None for those of the endpoint.

    Raises:
        ScriptError: if the model was never deployed.
    """
    name = choose(context, model)
    model = context.deployment.model_of(name)
    newest = newest_config(context, name)
    if newest is None:
        raise ScriptError(
            f"{model} is not deployed.",
            "`python -m endpoint create` stores its files and settings.",
        )
    version, config = newest
    if any(map(prices.is_inferentia, instance_types(config))):
        raise ScriptError(
            f"{model} is served on Inferentia2, which training jobs and spot instances lack.",
            "Leave out --spot, so that its endpoint generates the pictures.",
        )
    definition = context.models.find_model(config["ProductionVariants"][0]["ModelName"]) or {}
    container = definition.get("PrimaryContainer", {})
    if BACKEND in container.get("Environment", {}):
        raise ScriptError(
            f"{model} is not served by Easel's own container, whose code a spot job runs.",
            "Leave out --spot: the batch then goes through the endpoint.",
        )
    if "ModelDataSource" not in container:
        raise ScriptError(
            f"The files of {model} are not there.", "`python -m endpoint create` stores them."
        )
    environment = container.get("Environment", {})
    has_weights = "EASEL_MODEL_ID" not in environment
    quantise = environment.get("EASEL_QUANTISE", NONE)
    if has_weights and quantisation.needs_hub(quantise):
        raise ScriptError(
            f"{model} is stored with {quantise}, which loads its kernels from the hub, and a spot"
            " job with weights in S3 has no network.",
            "Leave out --spot: the batch then goes through the endpoint.",
        )
    start = f"s3://{context.deployment.bucket}/"
    data = str(container["ModelDataSource"]["S3DataSource"]["S3Uri"]).removeprefix(start)
    types = [instance_type] if instance_type else instance_types(config)
    return Definition(
        model,
        version,
        container["Image"],
        data,
        environment,
        types,
        types[0],
        has_weights,
    )


def with_room(context: Context, definition: Definition) -> Definition:
    """Return what a new job paints with.

    Its instance type is the first that the account may run.

    Raises:
        ScriptError: if the monthly cap is reached.
        QuotaTooSmall: if the account can run no such spot instance.
    """
    # Before the quotas: where no money is left, a larger quota would not help.
    lease.require_room(context, {"ProductionVariants": [{"InstanceType": definition.types[0]}]})
    chosen = choose_type(context, definition.types, spot=True)
    lease.require_room(context, {"ProductionVariants": [{"InstanceType": chosen}]})
    return replace(definition, instance_type=chosen, most_seconds=cap.most_seconds(context, chosen))


class SpotJob:
    """The job of a batch.

    Args:
        run: what is missing.
        definition: what to paint with.

    Attributes:
        definition: with the instance type of the latest job, once that is known.
    """

    def __init__(self, context: Context, run: Run, definition: Definition) -> None:
        self._context, self._run, self.definition = context, run, definition
        self._name: str | None = None  # of the latest attempt
        self._running = False
        self._id = places.batch_id(run.folder.lines, definition.version, "spot")
        self._prefix = places.checkpoints(self._id)
        self._recorded = Recorded(context.bucket, self._id)
        self._files = {
            number: places.output_file(number, task.picture) for number, task in run.left.items()
        }

    def collect(self) -> None:
        """Find the latest job, and fetch what is painted; it costs nothing."""
        self._latest()
        self._fetch()

    def prepare(self) -> None:
        """Choose what a new job would paint with, unless one runs; after `collect`.

        Raises:
            ScriptError: if the monthly cap is reached.
            QuotaTooSmall: if the account can run no such spot instance.
        """
        if not self._running:
            self.definition = with_room(self._context, self.definition)

    def paint(self, seconds: float | None) -> None:
        """Start the job, or join the one that runs, and fetch what it paints; after `prepare`.

        Args:
            seconds: that it is expected to take; None if that is unknown.

        Raises:
            TrainingFailed: if the job fails; what it has painted is fetched.
        """
        if self._name is None or not self._running:
            self._name = self._start(self._name, seconds)
        self._watch(self._name)

    def stop(self) -> str | None:
        """Stop the job if it runs, and fetch what it has painted; return its name."""
        self._latest()
        if self._name is not None and self._running:
            self._context.begin(f"managed-spot job {self._name}: stopped")
            self._context.training.stop_and_wait([self._name])
        self._fetch()
        return self._name if self._running else None

    # --- Start

    def _latest(self) -> None:
        """Find the latest attempt."""
        attempt = 1
        while True:
            name = places.sagemaker_name(self._context.name, self._id, attempt)
            description = self._context.training.find(name)
            if description is None:
                return
            self._name = name
            self._running = description["TrainingJobStatus"] not in _ENDED
            used = str(description["ResourceConfig"]["InstanceType"])
            self.definition = replace(self.definition, instance_type=used)
            attempt += 1

    def _start(self, before: str | None, seconds: float | None) -> str:
        context, definition = self._context, self.definition
        attempt = int(before.rpartition("-")[2]) + 1 if before else 1
        name = places.sagemaker_name(context.name, self._id, attempt)
        stack.ensure(
            context, Image.parse(definition.image), [definition.instance_type], gateway=False
        )
        files = code_files()
        code = places.code(weights_of_jobs.code_digest(files))
        payload.ensure_code(context.bucket, code, files)
        payload.ensure_adapters(context.bucket, definition.model)
        context.bucket.put(places.lines(self._id), self._lines())
        runtime = _UNKNOWN_RUN
        if seconds is not None:
            runtime = int(min(max(2 * seconds + _SPARE_RUN, _SHORTEST_RUN), _LONGEST_RUN))
        runtime = int(min(runtime, definition.most_seconds))
        context.begin(f"managed-spot job {name}: at most {elapsed(runtime)}")
        context.training.start(
            request.any_job(
                name,
                bucket=context.bucket.name,
                deployment=context.name,
                owner=OPERATOR,
                role=context.deployment.training_role,
                image=definition.image,
                instance_type=definition.instance_type,
                channels={
                    "code": code,
                    "lines": places.lines_channel(self._id),
                    "model": definition.data,
                    "loras": payload.adapters_prefix(definition.model),
                },
                checkpoints=self._prefix,
                output=places.output(self._id),
                max_runtime=runtime,
                max_wait=runtime + _MOST_WAIT,
                entrypoint=ENTRYPOINT,
                environment=_environment(definition),
                volume_gb=_GIB_FOR_SYSTEM + self._run.total // _PICTURES_PER_GIB,
                # A container that fetches its weights needs a network.
                isolated=definition.has_weights,
            )
        )
        return name

    def _lines(self) -> bytes:
        """Return `lines.jsonl`: the missing pictures, as the job reads them."""
        rows = (
            {"file": self._files[number], "request": task.picture.request.to_dict()}
            for number, task in self._run.left.items()
        )
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()

    # --- Watch

    def _watch(self, name: str) -> None:
        pause = min(_POLL_SECONDS + self._run.total / 1_000, _MOST_POLL_SECONDS)
        while True:
            # Before the pictures: what came in between is fetched after the job's end.
            description = self._context.training.find(name) or {}
            status = str(description.get("TrainingJobStatus", ""))
            self._fetch()
            if status in _ENDED or not self._run.left:
                break
            self._run.show(str(description.get("SecondaryStatus", "")).lower())
            self._context.clock.sleep(pause)
        self._fail_pictures(name)
        if self._run.left:
            self._report(description)

    def _fetch(self) -> None:
        """Store what has come."""
        if not self._run.left:
            return
        oldest = min(self._run.left)
        numbers = {self._files[number]: number for number in self._run.left}
        came = []
        for key in self._context.bucket.sizes(self._prefix, after=f"{self._prefix}{oldest:06}"):
            number = numbers.get(key.removeprefix(self._prefix))
            body = None if number is None else self._context.bucket.get(key)
            if number is None or body is None:
                continue
            if is_whole(body, self._run.left[number].picture.request.file_format):
                self._run.add(number, body)
                came.append(number)
        if came:
            self._record(came)

    def _record(self, numbers: Sequence[int]) -> None:
        """Record pictures, unless they were recorded when another folder fetched them."""
        new = self._recorded.claim(numbers)
        if not new:
            return
        price = prices.dearest([self.definition.instance_type])
        usd = None if price is None else price * training.spot_share()
        usage = Usage(self._context, self.definition.model, Kind.BATCH, usd)
        measured = self._measured()
        for number in new:
            usage.record(measured.get(self._files[number], self._run.seconds_each or 0.0))

    def _measured(self) -> dict[str, float]:
        """Return the seconds of pictures, as the job has measured them, by their files."""
        seconds = {}
        content = self._context.bucket.get(f"{self._prefix}{_PAINTED}") or b""
        for row in content.decode(errors="replace").splitlines():
            try:
                painted = json.loads(row)
                seconds[str(painted["file"])] = float(painted["seconds"])
            except (ValueError, KeyError, TypeError):
                continue
        return seconds

    def _fail_pictures(self, name: str) -> None:
        """Give up the pictures that the job has given up."""
        numbers = {self._files[number]: number for number in self._run.left}
        content = self._context.bucket.get(f"{self._prefix}{_FAILURES}") or b""
        for row in content.decode(errors="replace").splitlines():
            try:
                failure = json.loads(row)
                number = numbers.pop(failure["file"], None) if failure["job"] == name else None
                if number is not None:
                    self._run.fail(number, str(failure["message"]), int(failure["status"]))
            except (ValueError, KeyError, TypeError):
                continue

    def _report(self, description: Mapping[str, Any]) -> None:
        """Raise the error of a job that has ended before everything was painted."""
        reason = str(description.get("FailureReason", ""))
        left = f"{len(self._run.left):,} pictures are left"
        again = "The same command continues with the missing pictures."
        secondary = str(description.get("SecondaryStatus", ""))
        if secondary == "MaxRuntimeExceeded":
            raise TrainingFailed(f"The job reached its time limit; {left}.", again)
        if secondary == "MaxWaitTimeExceeded":
            raise TrainingFailed(f"AWS had no spot instance for long enough; {left}.", again)
        if description.get("TrainingJobStatus") == "Stopped":
            raise TrainingFailed(f"The job was stopped; {left}.", again)
        text = state.sentence(reason, self.definition.instance_type)
        raise TrainingFailed(f"The job failed: {text} {left.capitalize()}.", again)


def code_files() -> list[File]:
    """Return the files of the job's own code; the serving code is among the model's files."""
    return [File.read(path, f"batch/{path.name}") for path in sorted(_PACKAGE.glob("*.py"))]


def _environment(definition: Definition) -> dict[str, str]:
    """Return the job's variables: the settings of the endpoint's container, and where code is."""
    settings = {
        name: value
        for name, value in definition.environment.items()
        if name.startswith(("EASEL_", "HF_", "DIFFUSERS_"))
    }
    return {
        **settings,
        "EASEL_LORAS_FROM": f"{_INPUT}/loras",
        "PYTHONPATH": f"{_INPUT}/code:{_INPUT}/model/code",
    }
