"""SageMaker's pipelines.

moto 5.2.5 says that an execution has succeeded, and nothing comes of it; it accepts any text as a
definition, and has neither steps nor StopPipelineExecution. Here they run (`pipelines/`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from moto.core.utils import get_service_model
from moto.sagemaker.exceptions import ConflictException, ResourceNotFound, ValidationError
from moto.sagemaker.models import SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from endpoint.emulator.moto_ import request_check
from endpoint.emulator.moto_.patching import InUse, replace
from endpoint.emulator.moto_.roles import require_role
from endpoint.emulator.pipelines.definition import Definition, InvalidDefinition, parse
from endpoint.emulator.pipelines.execution import Execution
from endpoint.emulator.pipelines.service import Pipelines, TokenInUse

_service = InUse[Pipelines | None](None)


def pipelines(use: Pipelines) -> AbstractContextManager[None]:
    """Let pipelines that are started while the context lasts run there."""
    return _service.use(use)


def install() -> None:
    """Patch moto's classes."""
    backend = SageMakerModelBackend
    replace(backend, "create_pipeline", _create)
    replace(backend, "update_pipeline", _update)
    replace(backend, "delete_pipeline", _delete)
    response: Any = SageMakerResponse
    for name, method in {
        "start_pipeline_execution": _start,
        "stop_pipeline_execution": _stop,
        "describe_pipeline_execution": _describe,
        "list_pipeline_executions": _list,
        "list_pipeline_execution_steps": _list_steps,
        "list_pipeline_parameters_for_execution": _list_parameters,
    }.items():
        setattr(response, name, method)


# --- Pipelines


def _create(original: Callable[..., Any]) -> Callable[..., Any]:
    def create(self: SageMakerModelBackend, **options: Any) -> Any:
        require_role(self.account_id, options["role_arn"])
        # moto reads a definition from S3 into an object; it is checked when it is started.
        if options["pipeline_definition"]:
            definition_of(options["pipeline_definition"])
        return original(self, **options)

    return create


def _update(original: Callable[..., Any]) -> Callable[..., Any]:
    def update(self: SageMakerModelBackend, pipeline_name: str, **options: Any) -> Any:
        if options.get("pipeline_definition"):
            definition_of(options["pipeline_definition"])
        if options.get("role_arn"):
            require_role(self.account_id, options["role_arn"])
        return original(self, pipeline_name, **options)

    return update


def _delete(original: Callable[..., Any]) -> Callable[..., Any]:
    def delete(self: SageMakerModelBackend, pipeline_name: str) -> Any:
        known, service = self.pipelines.get(pipeline_name), _service.value
        if known is not None and service is not None:
            # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeletePipeline.html
            if service.is_running(known.arn):
                raise ConflictException(
                    f"The pipeline {pipeline_name} has executions that have not ended."
                )
            service.forget(known.arn)
        return original(self, pipeline_name)

    return delete


def definition_of(text: Any) -> Definition:
    """Return the pipeline that a text defines; refuses it as CreatePipeline does."""
    try:
        definition = parse(text if isinstance(text, str) else json.dumps(text))
        for step in definition.all_steps():
            if step.type == "Training":
                _check_training(step.name, step.arguments)
    except InvalidDefinition as error:
        raise ValidationError(message=f"Unable to parse pipeline definition. {error}") from None
    return definition


def _check_training(step: str, arguments: dict[str, Any]) -> None:
    shape = get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    # SageMaker makes the name up: https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines.html
    unknown = set(arguments) - (set(shape.members) - {"TrainingJobName"})
    missing = set(shape.required_members) - {"TrainingJobName"} - set(arguments)
    for name in sorted(unknown | missing):
        raise InvalidDefinition(f"The step [{step}] has an unknown or no argument [{name}].")


# --- Executions


def _start(self: SageMakerResponse) -> str:
    asked = json.loads(self.body)
    request_check.check("StartPipelineExecution", asked)
    known = self.sagemaker_backend.pipelines.get(asked["PipelineName"].rpartition("/")[2])
    if known is None:
        raise ResourceNotFound(f"Pipeline '{asked['PipelineName']}' does not exist.")
    service = _service.value
    if service is None:
        raise ValidationError(message="No pipelines are emulated here.")
    try:
        execution = service.start(
            definition_of(known.pipeline_definition),
            known.arn,
            self.sagemaker_backend.region_name,
            asked,
        )
    except InvalidDefinition as error:
        raise ValidationError(message=str(error)) from None
    except TokenInUse:
        raise ConflictException(
            "The ClientRequestToken belongs to an execution with other parameters."
        ) from None
    return json.dumps({"PipelineExecutionArn": execution.arn})


def _executions(pipeline: str) -> list[Execution]:
    service = _service.value
    return [] if service is None else service.executions(pipeline)


def _find(self: SageMakerResponse) -> tuple[Any, Execution]:
    arn = json.loads(self.body)["PipelineExecutionArn"]
    pipeline = arn.partition("/execution/")[0]
    known = self.sagemaker_backend.pipelines.get(pipeline.rpartition("/")[2])
    executions = _executions(pipeline)
    execution = next((item for item in executions if item.arn == arn), None)
    if known is None or execution is None:
        raise ResourceNotFound(f"Pipeline execution '{arn}' does not exist.")
    return known, execution


def _describe(self: SageMakerResponse) -> str:
    known, execution = _find(self)
    shown = {
        "PipelineArn": known.arn,
        "PipelineExecutionArn": execution.arn,
        "PipelineExecutionStatus": execution.status,
        "CreationTime": execution.created,
        "LastModifiedTime": execution.modified,
        "RoleArn": known.role_arn,
    }
    optional = {
        "FailureReason": execution.failure_reason,
        "PipelineExecutionDisplayName": execution.request.get("PipelineExecutionDisplayName"),
        "PipelineExecutionDescription": execution.request.get("PipelineExecutionDescription"),
    }
    return json.dumps(shown | {key: value for key, value in optional.items() if value})


def _stop(self: SageMakerResponse) -> str:
    _, execution = _find(self)
    if not execution.stop():
        raise ConflictException(
            f"The execution {execution.arn} is in status {execution.status} and cannot be stopped."
        )
    return json.dumps({"PipelineExecutionArn": execution.arn})


def _list(self: SageMakerResponse) -> str:
    asked = json.loads(self.body)
    known = self.sagemaker_backend.pipelines.get(asked["PipelineName"].rpartition("/")[2])
    if known is None:
        raise ResourceNotFound(f"Pipeline '{asked['PipelineName']}' does not exist.")
    executions = _executions(known.arn)
    if asked.get("SortOrder") == "Ascending":
        executions = executions[::-1]
    summaries = [
        {
            "PipelineExecutionArn": execution.arn,
            "StartTime": execution.created,
            "PipelineExecutionStatus": execution.status,
        }
        | (
            {"PipelineExecutionFailureReason": execution.failure_reason}
            if execution.failure_reason
            else {}
        )
        for execution in executions
    ]
    return json.dumps(_page("PipelineExecutionSummaries", summaries, asked))


def _list_steps(self: SageMakerResponse) -> str:
    _, execution = _find(self)
    asked = json.loads(self.body)
    steps = [record.describe() for record in execution.steps]
    # The latest first, where nothing else is asked for.
    if asked.get("SortOrder", "Descending") == "Descending":
        steps.reverse()
    return json.dumps(_page("PipelineExecutionSteps", steps, asked))


def _list_parameters(self: SageMakerResponse) -> str:
    _, execution = _find(self)
    return json.dumps({"PipelineParameters": execution.request.get("PipelineParameters", [])})


def _page(name: str, items: list[Any], asked: dict[str, Any]) -> dict[str, Any]:
    first, most = int(asked.get("NextToken") or 0), int(asked.get("MaxResults") or 10)
    following = {"NextToken": str(first + most)} if first + most < len(items) else {}
    return {name: items[first : first + most], **following}
