"""Training jobs: start, watch, stop and resume them, without HTTP.

    running.json   the claim of the owner's only running job           first
    names/...      the claim of the adapter's name
    job.json       what the trainer reads
    record.json    what is known of the job besides SageMaker's description
    <month>.json   the month's count, which is also the index of the owner's jobs
    CreateTrainingJob                                                  last

Nothing costs money before everything is checked and written. What a crash leaves is resolved by the
next look at the job: `Jobs.refresh` asks SageMaker, and whatever is over gives its claims back,
whoever looks. A job that SageMaker never got is over when its claim is stale.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from chalicelib.aws.clients import Client, LazyClient
from chalicelib.aws.parallel import in_parallel
from chalicelib.aws.s3 import Store
from chalicelib.aws.training import Refused, Trainings
from chalicelib.errors import (
    GatewayError,
    TrainingBusy,
    TrainingRunning,
    TrainingUnknown,
    WrongState,
)
from chalicelib.images.spend import Spend
from chalicelib.settings import Settings
from chalicelib.training.claims import Claims
from chalicelib.training.datasets import DataSet, DataSets
from chalicelib.training.jobs import Jobs, Training, attempt_of, changed
from chalicelib.training.months import Months
from chalicelib.training.planning import Plan, model_name, plan
from chalicelib.training.reservations import Reservations, running
from chalicelib.training.training_request import TrainingRequest
from chalicelib.training_jobs import places, request
from chalicelib.training_jobs.job import Job
from chalicelib.training_jobs.price import LONGEST_RUN
from chalicelib.training_jobs.state import Record, State
from chalicelib.training_settings import TrainableModel, TrainingSettings

_MOST_ATTEMPTS = 50
_MOST_LISTED = 50
_LARGEST_PROGRESS = 20_000_000  # bytes; a step has about 120
_TRIES = 3
_MOMENT = 5  # seconds
_STOPPABLE = ("queued", "starting", "downloading", "training", "interrupted", "uploading")


class TrainingService:
    """Fine-tunes the models of the settings.

    Args:
        settings: the gateway's, with those of training.
        s3: provides the S3 client.
        sagemaker: provides the SageMaker client.
        now: seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        training: TrainingSettings,
        s3: Client | None = None,
        sagemaker: Client | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.training = settings, training
        # Adapters of up to 200 MB are read and written.
        client = s3 or LazyClient("s3", read_seconds=10, attempts=2)
        self.store = Store(client, training.bucket, "")
        self._spend = Spend(Store(client, *settings.spend) if settings.spend else None)
        # A CreateTrainingJob that is sent again meets its own name.
        self._trainings = Trainings(sagemaker or LazyClient("sagemaker", 10, attempts=2))
        self.datasets = DataSets(self.store)
        self._claims = Claims(self.store, now)
        self._months = Months(self.store, training.per_month, now)
        self.jobs = Jobs(training, self.store, self._claims, self._months, self._trainings, now)
        self._reservations = Reservations(settings.models, self.store, self._claims, self.jobs)
        self._now = now

    # --- Starting ---------------------------------------------------------------------------------

    def plan(self, owner: str, requested: TrainingRequest, longest: int = LONGEST_RUN) -> Plan:
        """Check what is asked as far as that costs nothing, and return it with its price.

        Args:
            owner: whose it will be.
            requested: by the owner.
            longest: the most seconds that the job may take.

        Raises:
            InvalidRequest: naming the field that is wrong.
            PromptRefused: if the prompt filter refuses one of the texts.
            TrainingUnknown: if the owner has no such data set.
            NameTaken: if the adapter's name is in use.
            TrainingQuotaUsed: if the month's jobs are used up.
        """
        model_name(requested, self.training.models)
        if requested.pictures is None:
            dataset = self.datasets.read(owner, requested.dataset)
        else:
            dataset = DataSet.to_come(requested.pictures)
        planned = plan(requested, dataset, self.settings, self.training, longest)
        with suppress(TrainingRunning):  # of which `start` says more
            self._reservations.check_name(planned.model, planned.job.name, owner)
        self._spend.require_room()
        self._months.check(owner)
        return planned

    def start(self, owner: str, requested: TrainingRequest, plan: Plan) -> Training:
        """Start a job that was planned.

        Raises:
            CapReached: if the month's money is spent.
            TrainingRunning: if a job of the owner is running.
            NameTaken: if another job was faster to claim the name.
            TrainingQuotaUsed: likewise, the month's last job.
            TrainingBusy, TrainingForbidden: if SageMaker does not start it.
            StoreUnavailable: if S3 does not respond.
        """
        self._spend.require_room()
        record = self.prepare(owner, places.new_id(), requested, plan)
        named = replace(
            record, sagemaker_job=places.sagemaker_name(self.training.deployment, record.id, 1)
        )
        return self._launch(named, None)

    def prepare(
        self,
        owner: str,
        identifier: str,
        requested: TrainingRequest,
        plan: Plan,
        execution: str = "",
    ) -> Record:
        """Claim everything that a job needs and write its files, but for the record.

        Args:
            owner: whose it will be.
            identifier: of the job.
            requested: by the owner.
            plan: of it.
            execution: the ARN of the pipeline's execution that will start it; empty without one.

        Raises: as `start`.
        """
        model = self.training.models[plan.model]
        record = Record(
            id=identifier,
            owner=owner,
            model=plan.model,
            name=plan.job.name,
            dataset=requested.dataset,
            instance_type=model.instance_type,
            spot=not plan.on_demand,
            usd_per_hour=plan.estimate.usd_per_hour,
            usd_most=plan.estimate.usd.most,
            steps=plan.estimate.steps,
            pictures=len(plan.dataset.pictures),
            max_runtime=plan.estimate.max_runtime,
            max_wait=plan.estimate.max_wait,
            created=self._now(),
            digest=plan.dataset.digest,
            execution=execution,
        )
        self._reservations.take(record)
        try:
            if plan.captions:
                digest = self.datasets.caption(owner, requested.dataset, plan.captions)
                record = replace(record, digest=digest)
            content = request.job_json(
                plan.job, steps=record.steps, usd_per_hour=record.usd_per_hour
            )
            self.store.write(places.job_file(record.id), content)
        except GatewayError:
            with suppress(GatewayError):  # else they are free when they are stale
                self._reservations.give_back(record)
            raise
        return record

    def _launch(self, record: Record, tag: str | None) -> Training:
        """Write the record, count the attempt and start it.

        Args:
            record: of a new attempt.
            tag: of the record that it replaces; None for a new job.
        """
        if tag is None:
            self.jobs.create(record)
        elif not self.jobs.replace(record, tag):
            raise running(record.id, "was changed at the same moment")
        try:
            self._months.count(record.owner, attempt_of(record))
            self._trainings.start(self._request(record))
        except Refused as error:
            self.jobs.never_started(record.id)
            raise error.reason from error
        except TrainingBusy:
            raise  # it may have been started, which the next look finds
        except GatewayError:
            with suppress(GatewayError):
                self.jobs.never_started(record.id)
            raise
        return Training(record, State("queued"))

    # --- Watching ---------------------------------------------------------------------------------

    def find(self, owner: str, identifier: str) -> Training:
        """Return a job of an owner as it is now; one that is completed is published first.

        Raises:
            TrainingUnknown: if there is no such job, or it is another owner's.
            TrainingBusy, TrainingForbidden, StoreUnavailable: if AWS does not say.
        """
        return self.jobs.refresh(*self.jobs.owned(owner, identifier))

    def all_of(self, owner: str) -> list[Training]:
        """Return the owner's latest jobs as they are now, the newest first; raises as `find`."""
        identifiers = self._months.jobs(owner, _MOST_LISTED)
        every = in_parallel(self.jobs.read, identifiers)
        stored = [one for one in every if one is not None and one[0].owner == owner]
        found = in_parallel(lambda one: self.jobs.refresh(*one), stored)
        return sorted(found, key=lambda one: one.record.created, reverse=True)

    def progress(self, record: Record) -> str:
        """Return the text of the job's progress so far; raises StoreUnavailable."""
        stored = self.store.read(places.progress(record.id), longest=_LARGEST_PROGRESS)
        return stored.body.decode(errors="replace") if stored else ""

    def samples(self, record: Record) -> list[int]:
        """Return the steps that have a sample sheet, in order; raises StoreUnavailable."""
        listed = self.store.listed(places.samples(record.id), 1_000)
        steps = (places.step_of_sample(one.key) for one in listed)
        return sorted(step for step in steps if step is not None)

    def prompt(self, record: Record) -> str:
        """Return what to ask for with the finished adapter: the caption of most of its pictures."""
        stored = self.store.read(places.job_file(record.id))
        try:
            job = Job.from_dict(json.loads(stored.body)) if stored else None
        except ValueError:
            job = None
        if job is None:
            return record.name
        taught = job.instance_prompt
        if job.trigger.casefold() not in taught.casefold():
            taught = f"{job.trigger}, {taught}" if taught else job.trigger
        return next((text for text in (taught, *job.sample_prompts) if text), record.name)

    def is_offered(self, record: Record) -> bool:
        """Whether the job's adapter is published, and was not deleted; raises StoreUnavailable."""
        if record.published is None:
            return False
        return self.store.size(places.adapter(record.model, record.name)) is not None

    def cost(self, training: Training) -> float:
        """Return what the job has cost so far, in USD: as far as AWS says, else as estimated."""
        record = training.record
        if record.ended is not None or training.started is None:
            return record.spent
        return record.spent + (self._now() - training.started) / 3_600 * record.usd_per_hour

    # --- Stopping, resuming, deleting -------------------------------------------------------------

    def cancel(self, owner: str, identifier: str) -> Training:
        """Have a job write a checkpoint and stop.

        Raises:
            TrainingUnknown: as `find`; likewise the others.
            WrongState: if it is over.
            TrainingBusy: if it is only just being started.
        """
        for _ in range(_TRIES):
            record, tag = self.jobs.owned(owner, identifier)
            training = self.jobs.refresh(record, tag)
            if training.state.name == "stopping":
                return training
            if training.state.name not in _STOPPABLE:
                raise WrongState(f"The job is {training.state.name} already.")
            if not training.in_sagemaker:
                error = TrainingBusy("The job is just being started; cancel it in a moment.")
                error.retry_after = _MOMENT
                raise error
            if self.jobs.replace(replace(record, cancelled=True), tag):
                self._trainings.stop(record.sagemaker_job)
                return replace(training, state=State("stopping"))
        raise changed()

    def resume(self, owner: str, identifier: str, *, on_demand: bool) -> Training:
        """Continue a failed or stopped job from its newest checkpoint, as a new SageMaker job.

        Args:
            owner: whose it is.
            identifier: of the job.
            on_demand: whether to pay the full price from now on.

        Raises:
            TrainingUnknown: as `find`; likewise the others.
            WrongState: if it is running or published, or its data set or model has changed.
            TrainingRunning, NameTaken, TrainingQuotaUsed: as `start`.
        """
        training = self.jobs.refresh(*self.jobs.owned(owner, identifier))
        record, tag = self.jobs.owned(owner, identifier)
        model = self.training.models.get(record.model)
        if record.ended is None or record.published is not None:
            raise WrongState(f"The job is {training.state.name}; only one that ended is resumed.")
        if model is None or record.attempt >= _MOST_ATTEMPTS:
            raise WrongState("The job cannot be resumed any more; start a new one.")
        if self.datasets.digest(owner, record.dataset) != record.digest:
            raise WrongState("The job's data set has changed or expired; start a new one.")
        self._months.check(owner)
        record = self._next_attempt(record, model, on_demand)
        self._reservations.take(record)
        return self._launch(record, tag)

    def _next_attempt(self, record: Record, model: TrainableModel, on_demand: bool) -> Record:
        attempt = record.attempt + 1
        changes: dict[str, Any] = {}
        if on_demand and record.spot:
            changes = {"spot": False, "max_wait": None, "usd_per_hour": model.usd_per_hour}
        return replace(
            record,
            attempt=attempt,
            sagemaker_job=places.sagemaker_name(self.training.deployment, record.id, attempt),
            cancelled=False,
            error="",
            ended=None,
            execution="",
            **changes,
        )

    def delete_dataset(self, owner: str, identifier: str) -> None:
        """Delete a data set's files. A stopped job with it cannot be resumed any more.

        Raises:
            TrainingUnknown: if the owner has no such data set.
            WrongState: while a job trains on it, or one is being started.
            StoreUnavailable: if S3 does not respond; deleting can be repeated.
        """
        claim = self._claims.read(places.running(owner))
        stored = self.jobs.read(claim.id) if claim else None
        if stored is not None and stored[0].dataset == identifier:
            training = self.jobs.refresh(*stored)
            if training.record.ended is None:
                raise WrongState(f"Job {training.record.id} trains on it; cancel that first.")
        elif claim is not None and stored is None and not self._claims.is_stale(claim):
            raise WrongState(f"Job {claim.id} is just being started; try again in a moment.")
        self.datasets.delete(owner, identifier)

    def delete_adapter(self, owner: str, model: str, name: str) -> None:
        """Delete a published adapter, and free its name.

        Raises:
            TrainingUnknown: if the name is not the owner's.
            WrongState: if its job is running.
            StoreUnavailable: if S3 does not respond.
        """
        try:
            key, adapter = places.name_claim(model, name), places.adapter(model, name)
        except ValueError as error:
            raise _unknown_adapter() from error
        claim = self._claims.read(key)
        if claim is None or claim.owner != owner:
            raise _unknown_adapter()
        stored = self.jobs.read(claim.id)
        if stored is not None:
            training = self.jobs.refresh(*stored)
            if training.record.ended is None:
                raise WrongState(f"Job {claim.id} is training it; cancel that first.")
        elif not self._claims.is_stale(claim):
            raise WrongState(f"Job {claim.id} is just being started; cancel that first.")
        self.store.delete(adapter)
        self._claims.release(key, claim.id)

    # --- What others report -----------------------------------------------------------------------

    def observe(self, identifier: str, sagemaker_job: str) -> Training | None:
        """Look at a job because its state is said to have changed; None if there is no such job.

        Args:
            identifier: of the job.
            sagemaker_job: SageMaker's name of the attempt. A pipeline makes up its own: it is
                believed if SageMaker says that it writes to this job's place.
        """
        stored = self.jobs.read(identifier)
        if stored is None:
            return None
        record, tag = stored
        is_new = record.sagemaker_job != sagemaker_job and self.jobs.awaits_job(record)
        if is_new and self.jobs.writes_to(record, sagemaker_job):
            record, tag = self.jobs.adopt(record, tag, sagemaker_job)
        return self.jobs.refresh(record, tag) if record.sagemaker_job == sagemaker_job else None

    def begin(self, record: Record) -> None:
        """Write the record of a prepared job that a pipeline will start, and count it.

        Raises:
            TrainingQuotaUsed: if the month's jobs are used up.
        """
        self.jobs.create(record)
        try:
            self._months.count(record.owner, attempt_of(record))
        except GatewayError:
            with suppress(GatewayError):
                self.jobs.never_started(record.id)
            raise

    def address(self, key: str) -> str:
        """Return the s3:// address of a key or a prefix."""
        return f"s3://{self.training.bucket}/{key}"

    def _request(self, record: Record) -> dict[str, Any]:
        training = self.training
        return request.create_training_job(
            record.sagemaker_job,
            bucket=training.bucket,
            deployment=training.deployment,
            owner=record.owner,
            role=training.role,
            image=training.image,
            instance_type=record.instance_type,
            code=training.code,
            job=places.job_channel(record.id),
            pictures=places.dataset(record.owner, record.dataset),
            weights=training.models[record.model].weights,
            checkpoints=places.checkpoints(record.id),
            output=places.output(record.id),
            max_runtime=record.max_runtime,
            max_wait=record.max_wait,
        )


def _unknown_adapter() -> TrainingUnknown:
    return TrainingUnknown("Unknown adapter, or one of another key.")
