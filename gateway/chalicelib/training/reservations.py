"""What a job has to have for itself: its owner's running job, and its adapter's name.

A claim (`claims.py`) is free when its job is over, which is why jobs are looked at here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from chalicelib.aws.s3 import Store
from chalicelib.errors import GatewayError, NameTaken, TrainingRunning
from chalicelib.settings import Model
from chalicelib.training.claims import Claim, Claims
from chalicelib.training.jobs import Jobs
from chalicelib.training_jobs import places
from chalicelib.training_jobs.state import Record


class Reservations:
    """What the jobs of all owners have reserved.

    Args:
        models: on offer, whose built-in adapters have names as well.
        store: the whole bucket.
        claims: in it.
        jobs: of the claims.
    """

    def __init__(
        self, models: Mapping[str, Model], store: Store, claims: Claims, jobs: Jobs
    ) -> None:
        self._models, self._store, self._claims, self._jobs = models, store, claims, jobs

    def take(self, record: Record) -> None:
        """Reserve both for a job.

        Raises:
            TrainingRunning: if another job of the owner is running.
            NameTaken: if the name is in use.
            StoreUnavailable: if S3 does not respond.
        """
        self._claim_running(record)
        try:
            self._claim_name(record)
        except GatewayError:
            with suppress(GatewayError):
                self._claims.release(places.running(record.owner), record.id)
            raise

    def give_back(self, record: Record) -> None:
        """Give back what a job has; raises StoreUnavailable."""
        self._claims.release(places.name_claim(record.model, record.name), record.id)
        self._claims.release(places.running(record.owner), record.id)

    def _claim_running(self, record: Record) -> None:
        key = places.running(record.owner)
        over = self._claims.read(key)
        if over is not None:
            self._check_over(over)
            over = self._unchanged(key, over)
        if not self._claims.take(key, record.owner, record.id, over):
            if winner := self._claims.read(key):
                raise running(winner.id, "was started at the same moment")
            raise TrainingRunning("Another job of this key was started at the same moment.")

    def _check_over(self, claim: Claim, *, patient: bool = False) -> None:
        """Raise TrainingRunning unless the job of a claim is over.

        Args:
            claim: of a running job or of a name.
            patient: whether a claim without a job's record never becomes stale.
        """
        stored, ended = self._jobs.read(claim.id), None
        if stored is not None:
            training = self._jobs.refresh(*stored)
            ended = training.record.ended
            if ended is None:
                raise running(claim.id, f"is {training.state.name}")
        # A claim after the end is of another attempt, which may not be written yet.
        is_over = ended is not None and claim.since <= ended
        if (patient and stored is None) or not (is_over or self._claims.is_stale(claim)):
            raise running(claim.id, "is being started")

    def _unchanged(self, key: str, over: Claim) -> Claim | None:
        """Return a claim whose job is over, as it is now; None if its job has given it back.

        Raises:
            TrainingRunning: if another request was faster to replace it.
        """
        claim = self._claims.read(key)
        if claim is not None and claim.tag != over.tag:
            raise running(claim.id, "is being started")
        return claim

    def check_name(self, model: str, name: str, owner: str, identifier: str = "") -> Claim | None:
        """Return the claim that a new one would replace.

        Raises:
            NameTaken: if an adapter has the name, or another owner's job.
            TrainingRunning: if a job of this owner has it.
        """
        offered = self._models.get(model)
        built_in = (offered.loras if offered else None) or ()
        if name in built_in or self._store.size(places.adapter(model, name)) is not None:
            raise _taken(name)
        key = places.name_claim(model, name)
        claim = self._claims.read(key)
        if claim is None:
            return None
        try:
            # The operator's script claims a name before it uploads pictures, which takes minutes. A
            # pipeline's check that was cut short is made again for the same job.
            is_script = claim.owner == places.OPERATOR and claim.id != identifier
            self._check_over(claim, patient=is_script)
        except TrainingRunning:
            if claim.owner != owner:
                raise _taken(name) from None
            raise
        # What was over has given its claim back, or has become an adapter.
        if self._store.size(places.adapter(model, name)) is not None:
            raise _taken(name)
        return self._unchanged(key, claim)

    def _claim_name(self, record: Record) -> None:
        over = self.check_name(record.model, record.name, record.owner, record.id)
        key = places.name_claim(record.model, record.name)
        if not self._claims.take(key, record.owner, record.id, over):
            raise _taken(record.name)


def running(identifier: str, state: str) -> TrainingRunning:
    """Return the error of an owner's second job, which names the first."""
    error = TrainingRunning(f"Job {identifier} of this key {state}; one can run at a time.")
    error.job = identifier
    return error


def _taken(name: str) -> NameTaken:
    return NameTaken(f"name: {name} is in use; choose another one, or delete it", field="name")
