"""All training jobs of the account."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.training.job import Job, Surroundings
from endpoint.emulator.training.record import ENDED, Record
from endpoint.emulator.training.rules import Rules
from endpoint.emulator.training.transfers import Transfers

Work = Callable[[], None]


class Training:
    """Runs training jobs.

    Args:
        url: returns the emulated AWS's address.
        key: the id of the access key of training jobs' roles.
        clients: boto3 clients with this key.
        clock: counts the limits.
        epoch: the date at which the clock is 0.
        start: starts a job's work; by default in a thread.

    Attributes:
        rules: how long states take, and what goes wrong.
    """

    def __init__(
        self,
        url: Callable[[], str],
        key: str,
        clients: Clients,
        clock: Clock,
        epoch: datetime,
        *,
        start: Callable[[Work], None] | None = None,
    ) -> None:
        self.rules = Rules()
        self._around = Surroundings(url, key, clients, clock, self.rules)
        self._epoch = epoch.timestamp()
        self._start = start or self._in_thread
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._threads: list[threading.Thread] = []

    def date(self) -> float:
        """Return the emulated moment in seconds since 1970."""
        return self._epoch + self._around.clock.now()

    def create(
        self, request: dict[str, Any], arn: str, region: str, changed: Callable[[Record], None]
    ) -> Job:
        """Start a job; `changed` is called after each change of its status."""
        record = Record(request, arn, self.date, self.rules.billed_share, changed)
        job = Job(record, region, self._around)
        with self._lock:
            self._jobs.append(job)
        self._start(job.run)
        return job

    def _in_thread(self, work: Work) -> None:
        thread = threading.Thread(target=work, daemon=True, name="training job")
        self._threads = [item for item in self._threads if item.is_alive()] + [thread]
        thread.start()

    def has_objects(self, uri: str, region: str) -> bool:
        """Whether the role of training jobs finds objects that begin with an address."""
        transfers = Transfers(self._around.clients.get("s3", region))
        return next(transfers.keys(uri), None) is not None

    def in_use(self, region: str, instance_type: str, *, spot: bool) -> int:
        """Return how many instances of a type the jobs have that have not ended."""
        return sum(
            job.record.request["ResourceConfig"].get("InstanceCount", 1)
            for job in self._present()
            if job.region == region
            and job.record.is_spot == spot
            and job.record.request["ResourceConfig"].get("InstanceType") == instance_type
        )

    def _present(self) -> list[Job]:
        with self._lock:
            # A job that has ended is in moto alone.
            self._jobs = [job for job in self._jobs if job.record.status not in ENDED]
            return list(self._jobs)

    def interrupt(self, name: str) -> None:
        """Take a job's spot instance away.

        Raises:
            ValueError: unless there is such a spot job, and it is training.
        """
        jobs = [job for job in self._present() if job.record.name == name]
        if not jobs:
            raise ValueError(f"no training job {name} is in progress")
        for job in jobs:
            job.interrupt()

    def close(self) -> None:
        """End all jobs and their processes."""
        for job in self._present():
            job.close()
        for thread in self._threads:
            thread.join()
