"""SageMaker's training jobs."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import AccessDenied, code_of, message_of
from endpoint.core.waiting import Waiting

# IAM is eventually consistent: a new role usually reaches SageMaker within seconds.
_ROLE_SECONDS = 120
_STOP_SECONDS = 600
_ENDED = {"Completed", "Failed", "Stopped"}


class Training:
    """Training jobs by name."""

    def __init__(self, client: Any, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    def start(self, request: dict[str, Any]) -> None:
        """Create a training job; an attempt of the same name that exists is left as it is.

        Waits for a new role, which SageMaker may not see at first.

        Raises:
            AccessDenied: if SageMaker cannot use the role after two minutes.
            ClientError: if SageMaker refuses the request.
        """
        refusal = ""

        def attempt() -> str | None:
            nonlocal refusal
            try:
                self._client.create_training_job(**request)
            except ClientError as error:
                if code_of(error) == "ResourceInUse":
                    return None
                if not _is_role_unknown(error):
                    raise
                refusal = message_of(error)
                return "waiting until SageMaker can use the new role"
            return None

        # Outside the wait, because a dry run waits for nothing but should print the call.
        if attempt() is None:
            return
        self._waiting.until_done(attempt, at_most=_ROLE_SECONDS, every=5)
        if self.find(request["TrainingJobName"]) is None and not self._waiting.pretend:
            raise AccessDenied(f"SageMaker cannot use the role of training jobs: {refusal}")

    def find(self, name: str) -> dict[str, Any] | None:
        """Return SageMaker's description of a job, or None if it does not exist."""
        try:
            description: dict[str, Any] = self._client.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return description

    def stop(self, name: str) -> None:
        """Ask a job to stop; one that has ended, or does not exist, stays as it is."""
        try:
            self._client.stop_training_job(TrainingJobName=name)
        except ClientError as error:
            # It may have ended between two calls.
            if not is_missing(error) and code_of(error) != "ValidationException":
                raise

    def stop_and_wait(self, names: list[str]) -> None:
        """Stop jobs, and wait until no instance runs for them."""
        for name in names:
            self.stop(name)

        def poll() -> str | None:
            running = [name for name in names if self._runs(name)]
            return f"stopping {running[0]}" if running else None

        self._waiting.until_done(poll, at_most=_STOP_SECONDS, every=5)

    def running(self, prefix: str) -> list[dict[str, Any]]:
        """Return the summaries of the jobs of this prefix that have not ended."""
        summaries: list[dict[str, Any]] = []
        for status in ("InProgress", "Stopping"):
            pages = self._client.get_paginator("list_training_jobs").paginate(
                NameContains=prefix, StatusEquals=status
            )
            summaries += [item for page in pages for item in page["TrainingJobSummaries"]]
        return [item for item in summaries if item["TrainingJobName"].startswith(prefix)]

    def pipelines(self, prefix: str) -> list[str]:
        """Return the names of the pipelines of this prefix."""
        pages = self._client.get_paginator("list_pipelines").paginate(PipelineNamePrefix=prefix)
        names = [str(item["PipelineName"]) for page in pages for item in page["PipelineSummaries"]]
        # The prefix is a filter of SageMaker's, which counts in hyphens only with care.
        return [name for name in names if name.startswith(prefix)]

    def _runs(self, name: str) -> bool:
        description = self.find(name)
        return description is not None and description["TrainingJobStatus"] not in _ENDED


def is_missing(error: ClientError) -> bool:
    """Whether an error means that the training job does not exist."""
    text = message_of(error).lower()
    return code_of(error) in {"ValidationException", "ResourceNotFound"} and (
        "not found" in text or "could not find" in text
    )


def _is_role_unknown(error: ClientError) -> bool:
    text = message_of(error).lower()
    return code_of(error) == "ValidationException" and any(
        phrase in text for phrase in ("could not assume role", "trust relationship")
    )
