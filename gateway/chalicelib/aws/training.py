"""SageMaker training jobs: start, describe and stop them. botocore's errors end here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.clients import Client
from chalicelib.aws.deadline import DeadlinePassed, shared
from chalicelib.errors import GatewayError, TrainingBusy, TrainingForbidden
from chalicelib.telemetry import logger

_FAILURES = (BotoCoreError, DeadlinePassed)
_EXISTS = "ResourceInUse"
_QUOTA = "ResourceLimitExceeded"
_BUSY = {
    "CapacityError",
    "InternalFailure",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


@dataclass(frozen=True)
class Execution:
    """An execution of a pipeline.

    Attributes:
        is_over: whether no step of it runs any more.
        reason: why a step failed; empty if none has.
        job: SageMaker's name of the training job of its latest attempt; empty without one.
    """

    is_over: bool
    reason: str = ""
    job: str = ""


class Trainings:
    """The training jobs of this account and region, by SageMaker's names.

    Args:
        sagemaker: provides the SageMaker client.
    """

    def __init__(self, sagemaker: Client) -> None:
        self._sagemaker = sagemaker

    def start(self, request: Mapping[str, Any]) -> None:
        """Start a training job; one of that name is the result of an earlier try.

        Args:
            request: the whole CreateTrainingJob request.

        Raises:
            Refused: if it certainly was not started.
            TrainingBusy: if SageMaker did not respond; it may have been started.
        """
        try:
            shared().keep(lambda: self._sagemaker.client().create_training_job(**request))
        except ClientError as error:
            if _code(error) != _EXISTS:
                raise Refused(_refusal(error)) from error
        except _FAILURES as error:
            raise _no_answer() from error

    def describe(self, name: str) -> dict[str, Any] | None:
        """Return SageMaker's description of a training job, or None if there is none.

        Raises:
            TrainingBusy: if SageMaker returns neither.
            TrainingForbidden: if the gateway's role does not allow the call.
        """
        return self._ask(
            lambda client: client.describe_training_job(TrainingJobName=name), missing="not found"
        )

    def stop(self, name: str) -> None:
        """Stop a training job, unless it has ended; raises as `describe`."""
        # A job that has ended is a ValidationException as well.
        self._ask(lambda client: client.stop_training_job(TrainingJobName=name), missing="")

    def execution(self, arn: str) -> Execution:
        """Return an execution of the training pipeline; raises as `describe`.

        One that SageMaker does not have any more is over.
        """
        described = self._ask(
            lambda client: client.describe_pipeline_execution(PipelineExecutionArn=arn),
            missing="does not exist",
        )
        if described is None:
            return Execution(is_over=True)
        if described["PipelineExecutionStatus"] in {"Executing", "Stopping"}:
            return Execution(is_over=False)
        listed = self._ask(
            lambda client: client.list_pipeline_execution_steps(PipelineExecutionArn=arn),
            missing="does not exist",
        )
        steps = (listed or {}).get("PipelineExecutionSteps", [])
        reasons = (str(step.get("FailureReason", "")) for step in steps)
        jobs = (step.get("Metadata", {}).get("TrainingJob", {}).get("Arn", "") for step in steps)
        return Execution(
            is_over=True,
            reason=next(filter(None, reasons), ""),
            job=next(filter(None, jobs), "").rpartition("/")[2],
        )

    def _ask(self, call: Callable[[Any], Any], missing: str) -> dict[str, Any] | None:
        try:
            return dict(shared().keep(lambda: call(self._sagemaker.client())))
        except ClientError as error:
            message = str(error.response.get("Error", {}).get("Message", ""))
            # Both codes are met: the service model has ResourceNotFound, AWS's responses
            # ValidationException with "Requested resource not found."
            if _code(error) == "ResourceNotFound" or (
                _code(error) in {"ValidationException", "ValidationError"}
                and missing in message.lower()
            ):
                return None
            raise _refusal(error) from error
        except _FAILURES as error:
            raise _no_answer() from error


class Refused(Exception):
    """SageMaker refused to start a training job.

    Attributes:
        reason: for the caller.
    """

    def __init__(self, reason: GatewayError) -> None:
        self.reason = reason
        super().__init__(reason.message)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _refusal(error: ClientError) -> GatewayError:
    code = _code(error)
    if code == _QUOTA:
        return TrainingBusy(
            "The account's quota of training instances is in use or is 0; try again later, or ask"
            " the operator to raise it."
        )
    if code in _BUSY:
        return TrainingBusy("SageMaker cannot take a training job at the moment.")
    # No text of a caller is in the request, so none is in the reason.
    logger.warning("training refused", extra={"reason": str(error)})
    return TrainingForbidden("SageMaker refused the training job; the log has its reason.")


def _no_answer() -> TrainingBusy:
    return TrainingBusy("SageMaker did not respond; the training job may have been started.")
