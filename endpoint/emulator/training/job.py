"""One training job, from its creation to its end: a story from top to bottom."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.process.processes import Child
from endpoint.emulator.training.container import HOME, Container, end
from endpoint.emulator.training.errors import (
    INTERNAL,
    NO_CAPACITY,
    Interrupted,
    JobFailed,
    JobStopped,
)
from endpoint.emulator.training.job_log import JobLog
from endpoint.emulator.training.record import COMPLETED, FAILED, STOPPED, STOPPING, Record
from endpoint.emulator.training.rules import Rules
from endpoint.emulator.training.transfers import Mirror, Transfers, files

# "SageMaker sends the algorithm a SIGTERM signal, which delays job termination for 120 seconds."
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopTrainingJob.html
GRACE_SECONDS = 120.0
DEFAULT_RUNTIME = 86_400.0
_POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What all jobs share.

    Attributes:
        url: returns the emulated AWS's address.
        key: the id of the access key of training jobs' roles.
        clients: boto3 clients with this key.
        clock: counts the limits.
        rules: how long states take, and what goes wrong.
    """

    url: Callable[[], str]
    key: str
    clients: Clients
    clock: Clock
    rules: Rules


class Job:
    """A job that runs in a thread of its own.

    Attributes:
        record: its states, for whoever asks.
    """

    def __init__(self, record: Record, region: str, around: Surroundings) -> None:
        self.record, self.region, self._around = record, region, around
        self._request = record.request
        limits = self._request.get("StoppingCondition", {})
        self._longest_run = float(limits.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME))
        self._longest_wait = float(limits.get("MaxWaitTimeInSeconds", "inf"))
        self._created = around.clock.now()
        self._transfers = Transfers(around.clients.get("s3", region))
        self._stop_asked = threading.Event()
        self._interrupted = threading.Event()
        self._closed = threading.Event()
        # The secondary status in which it will end, once it is being stopped.
        self._ending = ""

    # What others ask of it

    def stop(self) -> bool:
        """Begin to stop the job; returns False if it has ended, or is stopping already."""
        is_accepted = self.record.enter("Stopping", status=STOPPING)
        if is_accepted:
            self._stop_asked.set()
        return is_accepted

    def interrupt(self) -> None:
        """Take the spot instance away.

        Raises:
            ValueError: unless the job is a spot job that is training.
        """
        if not self.record.is_spot:
            raise ValueError(f"{self.record.name} is no spot job")
        if self.record.secondary_status != "Training":
            raise ValueError(f"{self.record.name} is {self.record.secondary_status}, not Training")
        self._interrupted.set()

    def close(self) -> None:
        """End the job with the emulator, in whatever state it is."""
        self._closed.set()

    # Its life

    def run(self) -> None:
        """Go through all states."""
        try:
            while not self._attempt():
                self.record.enter("Interrupted")
            self.record.enter("Completed", status=COMPLETED)
        except JobStopped as stopped:
            self.record.enter(str(stopped), status=STOPPED)
        except JobFailed as failed:
            self.record.enter("Failed", status=FAILED, reason=str(failed))
        except _Closed:
            return
        except Exception:
            if not self._closed.is_set():  # else AWS has gone while it was used
                logger.exception("The training job %s failed inside the emulator", self.record.name)
                self.record.enter("Failed", status=FAILED, reason=INTERNAL)

    def _attempt(self) -> bool:
        """Train on one instance; returns False if it is taken away."""
        around = self._around
        with tempfile.TemporaryDirectory(prefix="easel-training-") as folder:
            container = Container(
                Path(folder) / "ml",
                self._request,
                self.record.arn,
                self.region,
                around.url(),
                around.key,
            )
            self._launch()
            mirror = self._download(container)
            try:
                code = self._train(container, mirror)
            except Interrupted:
                return False
            self._upload(container, code)
            self._conclude(container, code)
            return True

    def _launch(self) -> None:
        began = self._around.clock.now()
        self.record.enter("Starting")
        rules, kind = self._around.rules, self._request["ResourceConfig"]["InstanceType"]
        while kind in rules.missing:
            if not self.record.is_spot:
                raise JobFailed(NO_CAPACITY)
            self._pause()
        self._wait_until(began + rules.start_seconds)

    def _download(self, container: Container) -> Mirror | None:
        began = self._around.clock.now()
        self.record.enter("Downloading")
        container.prepare()
        for channel in self._request.get("InputDataConfig", []):
            folder = container.home / "input" / "data" / channel["ChannelName"]
            self._transfers.download(channel["DataSource"]["S3DataSource"]["S3Uri"], folder)
            self._check()
        mirror = None
        checkpoints = self._request.get("CheckpointConfig")
        if checkpoints:
            local = container.path(checkpoints.get("LocalPath") or f"{HOME}/checkpoints")
            mirror = Mirror(self._transfers, local, checkpoints["S3Uri"])
            mirror.download()
        self._wait_until(began + self._around.rules.download_seconds)
        return mirror

    def _train(self, container: Container, mirror: Mirror | None) -> int:
        """Run the container; returns its exit code, as Docker has it.

        Raises:
            Interrupted: if the instance is taken away. What was not copied to S3 is lost.
        """
        log = JobLog(self._around.clients.get("logs", self.region), self.record.name, container.log)
        self.record.enter("Training")
        child = container.start()
        try:
            code = self._watch(child, mirror, log)
        finally:
            end(child)
            log.send(rest=True)
        if mirror is not None:
            mirror.upload()
        return code if code >= 0 else 128 - code

    def _watch(self, child: Child, mirror: Mirror | None, log: JobLog) -> int:
        copied, deadline = time.monotonic(), float("inf")
        while (code := child.process.poll()) is None:
            if self._closed.is_set():
                raise _Closed
            if not self._ending and self._interrupted.is_set():
                self._interrupted.clear()
                raise Interrupted
            if not self._ending and (reason := self._reason_to_stop()):
                self._ending, deadline = reason, self._around.clock.now() + GRACE_SECONDS
                self.record.enter("Stopping", status=STOPPING)
                child.process.terminate()
            if self._around.clock.now() >= deadline:
                child.kill()
            if time.monotonic() >= copied + self._around.rules.mirror_seconds:
                copied = time.monotonic()
                log.send()
                if mirror is not None:
                    mirror.upload()
            time.sleep(_POLL_SECONDS)
        return code

    def _upload(self, container: Container, code: int) -> None:
        """Copy the results: of a job that fails, only output/data."""
        until = self._around.clock.now() + self._around.rules.upload_seconds
        self.record.enter("Uploading")
        while self._around.clock.now() < until:
            if self._closed.wait(_POLL_SECONDS):
                raise _Closed
        output = self._request["OutputDataConfig"]
        place = f"{output['S3OutputPath'].rstrip('/')}/{self.record.name}/output"
        is_packed = output.get("CompressionType", "GZIP") == "GZIP"
        data, model = container.home / "output" / "data", container.home / "model"
        if files(data):
            self._send(data, f"{place}/output.tar.gz" if is_packed else f"{place}/data/")
        if code == 0 or self._ending:
            # That a folder's key ends like this has no source at AWS.
            artifacts = f"{place}/model.tar.gz" if is_packed else f"{place}/model/"
            self._send(model, artifacts)
            self.record.artifacts = artifacts

    def _send(self, folder: Path, uri: str) -> None:
        if uri.endswith("/"):
            self._transfers.upload(folder, uri)
        else:
            self._transfers.upload_packed(folder, uri)

    def _conclude(self, container: Container, code: int) -> None:
        if self._ending or self._stop_asked.is_set():
            raise JobStopped(self._ending or "Stopped")
        if code:
            # https://github.com/aws/sagemaker-python-sdk/issues/357 has the words without a file.
            text = container.failure()
            reason = f"{text}, exit code: {code}" if text else f"Exit Code: {code}"
            raise JobFailed(f"AlgorithmError: {reason}")
        if self._around.rules.fails_with:
            raise JobFailed(self._around.rules.fails_with)

    # Waiting

    def _reason_to_stop(self) -> str:
        """Return the secondary status in which the job has to end now; nothing if it may go on."""
        if self._stop_asked.is_set():
            return "Stopped"
        if self.record.training_seconds() >= self._longest_run:
            return "MaxRuntimeExceeded"
        if self._around.clock.now() - self._created >= self._longest_wait:
            return "MaxWaitTimeExceeded"
        return ""

    def _check(self) -> None:
        if self._closed.is_set():
            raise _Closed
        if reason := self._reason_to_stop():
            raise JobStopped(reason)

    def _pause(self) -> None:
        self._check()
        self._closed.wait(_POLL_SECONDS)

    def _wait_until(self, moment: float) -> None:
        """Wait for a moment of the emulator's clock; a stop ends it."""
        self._check()
        while self._around.clock.now() < moment:
            self._pause()


class _Closed(Exception):
    """The emulator ends."""
