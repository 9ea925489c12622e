"""The records of training jobs, and their states: from SageMaker's description to the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from chalicelib.aws.s3 import Store
from chalicelib.aws.training import Trainings
from chalicelib.errors import StoreUnavailable, TrainingUnknown
from chalicelib.training.claims import STALE_SECONDS, Claims
from chalicelib.training.months import Months
from chalicelib.training.publishing import Unpublishable, publish
from chalicelib.training_jobs import places
from chalicelib.training_jobs.state import Record, State, sentence, state_of
from chalicelib.training_settings import TrainingSettings

# A step of a pipeline starts minutes after the one before it.
_PIPELINE_SECONDS = 3_600
_NEVER_STARTED = "It was never started; nothing was paid."
# The failures after which the pipeline starts another training job (endpoint/training.yaml).
_RETRIED = ("CapacityError", "InternalServerError")


@dataclass(frozen=True)
class Training:
    """A job as it is at the moment.

    Attributes:
        record: of the job.
        state: of its latest attempt.
        started: when that began to be billed, in seconds since 1970; None if it is not known.
        in_sagemaker: whether SageMaker has it, or had it.
    """

    record: Record
    state: State
    started: float | None = None
    in_sagemaker: bool = True


class Jobs:
    """The jobs of all owners.

    Args:
        training: the settings.
        store: the whole bucket.
        claims: of running jobs and of names.
        months: counts of attempts.
        trainings: SageMaker's training jobs.
        now: seconds since 1970.
    """

    def __init__(
        self,
        training: TrainingSettings,
        store: Store,
        claims: Claims,
        months: Months,
        trainings: Trainings,
        now: Callable[[], float],
    ) -> None:
        self._training = training
        self._store = store
        self._claims = claims
        self._months = months
        self._trainings = trainings
        self._now = now

    def owned(self, owner: str, identifier: str) -> tuple[Record, str]:
        """Return a job's record with its tag; another owner's is as unknown as none.

        Raises:
            TrainingUnknown: if there is none.
            StoreUnavailable: if S3 does not say; likewise all others.
        """
        stored = self.read(identifier)
        if stored is None or stored[0].owner != owner:
            raise TrainingUnknown("Unknown training job.")
        return stored

    def read(self, identifier: str) -> tuple[Record, str] | None:
        """Return a job's record with its tag; None if there is none."""
        if not places.is_id(identifier):
            return None
        stored = self._store.read(places.record(identifier))
        if stored is None:
            return None
        try:
            return Record.from_json(stored.body), stored.tag
        except ValueError:
            return None

    def create(self, record: Record) -> None:
        """Write the record of a new job."""
        self._store.write(places.record(record.id), record.to_json())

    def replace(self, record: Record, tag: str) -> bool:
        """Replace the version of a record that `tag` identifies; False if it has changed."""
        return self._store.replace(places.record(record.id), record.to_json(), tag) is not None

    def refresh(self, record: Record, tag: str) -> Training:
        """Return a job as it is now. If it is over, that is recorded, and its claims are freed.

        Raises:
            TrainingBusy, TrainingForbidden: if SageMaker does not say.
        """
        if record.ended is not None:
            return Training(record, state_of(record, None))
        description = (
            self._trainings.describe(record.sagemaker_job) if record.sagemaker_job else None
        )
        state = state_of(record, description)
        if record.execution and (description is None or _is_retried(description)):
            return self._between_jobs(record, tag, state, description)
        if description is None:
            if not self._is_abandoned(record):
                return Training(record, State("queued"), in_sagemaker=False)
            self._months.uncount(record.owner, attempt_of(record))
            return self._end(replace(record, error=_NEVER_STARTED), tag)
        if state.name == "completed":
            return self._end(self._published(record), tag, state)
        if state.name == "failed":
            return self._end(replace(record, error=state.error), tag, state)
        if state.name == "stopped":
            return self._end(replace(record, cancelled=True), tag, state)
        return Training(record, state, _started(description))

    def _between_jobs(
        self, record: Record, tag: str, state: State, description: Mapping[str, Any] | None
    ) -> Training:
        """Return a job whose pipeline has not started its training job, or will start another."""
        execution = self._trainings.execution(record.execution)
        if not execution.is_over:
            return Training(record, State("queued"), in_sagemaker=False)
        if execution.job not in ("", record.sagemaker_job):
            return self.refresh(*self.adopt(record, tag, execution.job))
        if description is not None:
            return self._end(replace(record, error=state.error), tag, state)
        self._months.uncount(record.owner, attempt_of(record))
        reason = f" {sentence(execution.reason, record.instance_type)}" if execution.reason else ""
        return self._end(replace(record, error=_NEVER_STARTED + reason), tag)

    def adopt(self, record: Record, tag: str, sagemaker_job: str) -> tuple[Record, str]:
        """Record the name of the training job that a pipeline has started; raises as `refresh`."""
        if not self.replace(replace(record, sagemaker_job=sagemaker_job), tag):
            raise changed()
        stored = self.read(record.id)
        if stored is None:
            raise changed()
        return stored

    def awaits_job(self, record: Record) -> bool:
        """Whether a pipeline may start a training job, or another one after a failure."""
        if not record.sagemaker_job:
            return True
        if not record.execution or record.ended is not None:
            return False
        description = self._trainings.describe(record.sagemaker_job)
        return description is None or _is_retried(description)

    def never_started(self, identifier: str) -> None:
        """Record that SageMaker refused a job, and give back everything."""
        stored = self.read(identifier)
        if stored is not None:
            record, tag = stored
            self._months.uncount(record.owner, attempt_of(record))
            self._end(replace(record, error=_NEVER_STARTED), tag)

    def _published(self, record: Record) -> Record:
        try:
            publish(self._store, self._claims, record)
        except Unpublishable as error:
            return replace(record, error=str(error))
        return replace(record, published=self._now())

    def _end(self, record: Record, tag: str, state: State | None = None) -> Training:
        """Record the end of an attempt. What is given back first is given back again at no harm."""
        if record.published is None:
            self._claims.release(places.name_claim(record.model, record.name), record.id)
        billed = (state.billed_seconds if state else None) or 0.0
        model = self._training.models.get(record.model)
        # SageMaker's billed seconds of a spot instance are fewer, at the full price.
        hourly = model.usd_per_hour if model else record.usd_per_hour
        ended = replace(record, ended=self._now(), spent=record.spent + billed / 3_600 * hourly)
        if not self.replace(ended, tag):
            stored = self.read(record.id)
            if stored is None or stored[0].ended is None:
                raise changed()
            ended = stored[0]
        self._claims.release(places.running(record.owner), record.id)
        return Training(ended, state_of(ended, None))

    def _is_abandoned(self, record: Record) -> bool:
        """Whether a job that SageMaker does not have will never be started."""
        if record.owner == places.OPERATOR and record.sagemaker_job:
            return False  # the operator's script starts it, and makes no claim of a running job
        claim = self._claims.read(places.running(record.owner))
        if claim is None or claim.id != record.id:
            return True
        patience = STALE_SECONDS
        if not record.sagemaker_job:
            # Its name is not known before an event or the pipeline's last step: it may be running.
            patience = _PIPELINE_SECONDS + (record.max_wait or record.max_runtime)
        return self._claims.is_stale(claim, patience)

    def writes_to(self, record: Record, sagemaker_job: str) -> bool:
        """Whether SageMaker has a training job of a name, and it writes to the job's place."""
        description = self._trainings.describe(sagemaker_job) or {}
        path = str(description.get("OutputDataConfig", {}).get("S3OutputPath", ""))
        own = f"s3://{self._training.bucket}/{places.output(record.id)}"
        return path.rstrip("/") == own.rstrip("/")


def attempt_of(record: Record) -> str:
    """Return the name of an attempt in the month's count."""
    return record.id if record.attempt == 1 else f"{record.id}-{record.attempt}"


def _is_retried(description: Mapping[str, Any]) -> bool:
    """Whether a training job failed in a way after which its pipeline starts another one."""
    return str(description.get("FailureReason", "")).startswith(_RETRIED)


def _started(description: Mapping[str, Any]) -> float | None:
    started = description.get("TrainingStartTime")
    return started.timestamp() if isinstance(started, datetime) else None


def changed() -> StoreUnavailable:
    """Return the error of a record that another request has changed."""
    return StoreUnavailable("The job was changed at the same moment; try again.")
