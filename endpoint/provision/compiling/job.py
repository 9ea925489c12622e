"""The job that compiles a model: start it or join it, watch it, and keep its result.

    weights   in the bucket, where training reads them as well
    code      the package `neuron` and the serving code, by their content
    job.json  what to compile
    adapter   a copy, so that a new one of its name changes nothing here
    job       from here on it costs money; its checkpoints let the next attempt continue
    record    `compiled.json`, after which nothing compiles the same again

The compiler needs no Inferentia: the job runs on an instance with enough main memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from endpoint.aws.registry import Image
from endpoint.catalogue import prices, training
from endpoint.catalogue.models import Model
from endpoint.cli.context import Context
from endpoint.core import compiled_models
from endpoint.core.compiled_models import Compiled, Target
from endpoint.core.problems import TrainingFailed
from endpoint.core.training_jobs import request, state
from endpoint.core.training_jobs.places import OPERATOR
from endpoint.provision.files import compiled, payload, weights_of_jobs
from endpoint.provision.training import stack

ENTRYPOINT = ["python3", "-m", "neuron"]
# Weights, the compiler's intermediate files, and the result.
_VOLUME_GB = 100
_POLL_SECONDS = 5
# Above the longest job, with waiting for a spot instance.
_MOST_WATCHED = 26 * 3_600
_ENDED = {"Completed", "Failed", "Stopped"}
_INDEX, _ARTEFACT, _ABOUT = "model_index.json", "model.neuron", "neuron.json"
# The kernel ends a process that takes more memory than there is: 128 + SIGKILL.
_OUT_OF_MEMORY = re.compile(r"exit code: (137|-9)\b", re.IGNORECASE)
_AGAIN = "The same command continues with what its checkpoints have."


@dataclass(frozen=True)
class Plan:
    """A job that can be started.

    Attributes:
        model: what to compile.
        target: likewise, as the result depends on it.
        adapter: the content of the adapter's file; None for none.
        image: with the compiler.
        instance_type: to compile on.
        max_runtime: seconds after which SageMaker stops the job.
        max_wait: seconds with waiting for a spot instance; None on demand.
    """

    model: Model
    target: Target
    adapter: bytes | None
    image: Image
    instance_type: str
    max_runtime: int
    max_wait: int | None


class CompileJob:
    """The job of one compilation.

    Args:
        target: what it compiles.

    Attributes:
        name: SageMaker's, of the latest attempt; None before the first.
        description: SageMaker's, of that attempt.
    """

    def __init__(self, context: Context, target: Target) -> None:
        self._context, self._target = context, target
        self.name: str | None = None
        self.description: Mapping[str, Any] = {}
        self._attempt = 0
        self._find()

    @property
    def runs(self) -> bool:
        """Whether an attempt has not ended."""
        return self.name is not None and self.description["TrainingJobStatus"] not in _ENDED

    @property
    def instance_type(self) -> str:
        """What the latest attempt runs or ran on."""
        return str(self.description["ResourceConfig"]["InstanceType"])

    @property
    def usd(self) -> float:
        """What the latest attempt has cost so far, as far as its price and times are known."""
        price = prices.dearest([self.instance_type]) or 0.0
        if self.description.get("EnableManagedSpotTraining"):
            price *= training.spot_share()
        seconds = self.description.get("BillableTimeInSeconds")
        if seconds is None:
            began = self.description.get("TrainingStartTime")
            ended = self.description.get("TrainingEndTime") or self._context.clock.now()
            seconds = max((ended - began).total_seconds(), 0.0) if began else 0.0
        return float(seconds) / 3_600 * price

    def result(self) -> Compiled | None:
        """Return what the latest attempt has made, if it is complete; record it then."""
        if self.description.get("TrainingJobStatus") != "Completed":
            return None
        try:
            return self._publish()
        except TrainingFailed:  # as after a deletion: SageMaker keeps the jobs' names for ever
            return None

    def start(self, plan: Plan) -> None:
        """Upload everything, and start the next attempt."""
        context, target = self._context, self._target
        weights = weights_of_jobs.ensure(context, plan.model)
        stack.ensure(context, plan.image, [plan.instance_type], gateway=False)
        files = code_files()
        code = compiled_models.code(weights_of_jobs.code_digest(files))
        payload.ensure_code(context.bucket, code, files)
        context.bucket.put(compiled_models.job_file(target), target.job_json())
        channels = {
            "code": code,
            "job": compiled_models.job_channel(target),
            "model": weights,
        }
        if plan.adapter is not None:
            context.bucket.put(compiled_models.lora_file(target), plan.adapter)
            channels["lora"] = compiled_models.lora_channel(target)
        name = compiled_models.sagemaker_name(context.name, target, self._attempt + 1)
        context.begin(f"compile job {name}")
        context.training.start(
            request.any_job(
                name,
                bucket=context.bucket.name,
                deployment=context.name,
                owner=OPERATOR,
                role=context.deployment.training_role,
                image=plan.image.uri,
                instance_type=plan.instance_type,
                channels=channels,
                checkpoints=compiled_models.checkpoints(target),
                output=compiled_models.output(target),
                max_runtime=plan.max_runtime,
                max_wait=plan.max_wait,
                entrypoint=ENTRYPOINT,
                volume_gb=_VOLUME_GB,
            )
        )
        self._find()

    def watch(self) -> Compiled:
        """Show how far the job is until it ends; return its result.

        Raises:
            TrainingFailed: if it fails, is stopped, or leaves nothing usable.
        """

        def poll() -> str | None:
            self.description = self._context.training.find(self.name or "") or self.description
            return self._phase() if self.runs else None

        self._context.waiting.until_done(poll, at_most=_MOST_WATCHED, every=_POLL_SECONDS)
        if self.description["TrainingJobStatus"] != "Completed":
            raise self._failure()
        return self._publish()

    # --- How far it is

    def _find(self) -> None:
        while True:
            attempt = self._attempt + 1
            name = compiled_models.sagemaker_name(self._context.name, self._target, attempt)
            description = self._context.training.find(name)
            if description is None:
                break
            self.name, self.description, self._attempt = name, description, attempt
        if self.name is not None:
            self.description = self._context.training.find(self.name) or self.description

    def _phase(self) -> str:
        status = str(self.description.get("SecondaryStatus", "")).lower() or "starting"
        if status == "training":
            lines = self._context.bucket.get(compiled_models.progress(self._target)) or b""
            status = compiled_models.newest(lines) or "preparing"
        return f"{self.name}: {status}, about {self.usd:.1f} USD so far"

    # --- Its end

    def _failure(self) -> TrainingFailed:
        reason = str(self.description.get("FailureReason", ""))
        secondary = str(self.description.get("SecondaryStatus", ""))
        if secondary == "MaxRuntimeExceeded":
            return TrainingFailed("The job reached its time limit.", _AGAIN)
        if secondary == "MaxWaitTimeExceeded":
            return TrainingFailed(
                "AWS had no spot instance for long enough.", f"{_AGAIN} Leave out --spot."
            )
        if self.description.get("TrainingJobStatus") == "Stopped":
            return TrainingFailed("The job was stopped.", _AGAIN)
        if _OUT_OF_MEMORY.search(reason):
            return TrainingFailed(
                f"The compiler ran out of memory on {self.instance_type}.",
                "Pass a larger one: --instance-type ml.m5.12xlarge.",
            )
        text = state.sentence(reason, self.instance_type)
        return TrainingFailed(f"The job failed: {text}", f"Its log has more. {_AGAIN}")

    def _publish(self) -> Compiled:
        """Check what the job left, and record it.

        Raises:
            TrainingFailed: if it cannot be served.
        """
        bucket, target = self._context.bucket, self._target
        place = f"{compiled_models.output(target)}{self.name}/"
        sizes = bucket.sizes(place)
        roots = [key.removesuffix(_INDEX) for key in sizes if key.endswith(f"/{_INDEX}")]
        root = min(roots, key=len, default="")
        files = {
            key.removeprefix(root): size for key, size in sizes.items() if key.startswith(root)
        }
        about = _read(bucket.get(f"{root}{_ABOUT}") if root else None)
        if not root or not any(name.endswith(f"/{_ARTEFACT}") for name in files):
            raise TrainingFailed(
                f"The job {self.name} is completed, and has left no compiled model.",
                f"Look into s3://{bucket.name}/{place}.",
            )
        for name, value in (("width", target.width), ("height", target.height)):
            if about.get(name, value) != value:
                raise TrainingFailed(
                    f"The job {self.name} has compiled a {name} of {about[name]} and not {value}.",
                    f"Look into s3://{bucket.name}/{place}.",
                )
        seconds = self.description.get("BillableTimeInSeconds") or 0
        done = Compiled(
            target,
            root,
            files,
            str(about.get("compiler_version", "")),
            self._context.clock.now().timestamp(),
            float(seconds),
        )
        bucket.put(compiled_models.record(target), done.to_json())
        # They can be as large as the result, which needs them no more; likewise what attempts
        # before have left.
        used = [*bucket.sizes(compiled_models.checkpoints(target))]
        used += [key for key in bucket.sizes(compiled_models.output(target)) if key not in sizes]
        bucket.delete(used)
        return done


def _read(content: bytes | None) -> dict[str, Any]:
    """Return `neuron.json`; empty where it is missing or damaged."""
    try:
        about = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def code_files() -> list[payload.File]:
    """Return the job's code: the package `neuron`, and the serving code, which it imports."""
    serving = [
        replace(file, place=file.place.removeprefix("code/")) for file in payload.code_files()
    ]
    return [*serving, *compiled.code_files()]
