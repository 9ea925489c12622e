"""The definition of a pipeline, and what CreatePipeline refuses in it.

https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

VERSION = "2020-12-01"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "String": str,
    "Integer": int,
    "Float": (int, float),
    "Boolean": bool,
}
# The members that a step of each type must have.
_MEMBERS = {
    "Training": ("Arguments",),
    "Lambda": ("Arguments", "FunctionArn"),
    "Condition": ("Arguments",),
    "Fail": ("Arguments",),
}
_STEP_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFERENCE = re.compile(r"Steps\.([A-Za-z0-9_-]+)[.\[]")


class InvalidDefinition(ValueError):
    """The definition, or the parameters of an execution, cannot be used; the message says why."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of the pipeline; `default` is None where an execution has to set it."""

    name: str
    type: str
    default: Any
    values: tuple[Any, ...]

    def read(self, value: Any) -> Any:
        """Return a value in the parameter's type; executions pass all of them as text.

        Raises:
            InvalidDefinition: if it has another type, or is not one of the parameter's values.
        """
        parsed = _parsed(self.type, value)
        if parsed is None:
            raise InvalidDefinition(
                f"The value {value!r} of the parameter [{self.name}] is no {self.type}."
            )
        if self.values and parsed not in self.values:
            raise InvalidDefinition(
                f"The value {value!r} of the parameter [{self.name}] is not one of its EnumValues."
            )
        return parsed


def _parsed(kind: str, value: Any) -> Any:
    if isinstance(value, str) and kind != "String":
        try:
            value = json.loads(value.lower() if kind == "Boolean" else value)
        except ValueError:
            return None
    is_right = isinstance(value, _TYPES[kind]) and (kind == "Boolean") == isinstance(value, bool)
    return value if is_right else None


@dataclass(frozen=True)
class Step:
    """A step; those of a condition are in `branches`, by True and False."""

    name: str
    type: str
    raw: Mapping[str, Any]
    branches: Mapping[bool, tuple[Step, ...]] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = self.raw["Arguments"]
        return arguments

    def needs(self) -> set[str]:
        """Return the names of the steps that have to end before."""
        own = {key: value for key, value in self.raw.items() if key != "DependsOn"}
        referred = {
            match[1]
            for reference in references(own)
            if (match := _REFERENCE.match(f"{reference}."))
        }
        inner = {step.name for branch in self.branches.values() for step in branch}
        needed = {
            name for branch in self.branches.values() for step in branch for name in step.needs()
        }
        return (referred | set(self.raw.get("DependsOn", [])) | needed) - inner


@dataclass(frozen=True)
class Definition:
    """What a pipeline does: its steps in an order in which they can run."""

    parameters: Mapping[str, Parameter]
    steps: tuple[Step, ...]

    def values(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of each parameter in an execution.

        Raises:
            InvalidDefinition: for an unknown parameter, a wrong value, or one that is missing.
        """
        for name in given:
            if name not in self.parameters:
                raise InvalidDefinition(f"The pipeline has no parameter [{name}].")
        values = {}
        for name, parameter in self.parameters.items():
            if name not in given and parameter.default is None:
                raise InvalidDefinition(f"The parameter [{name}] has no default value.")
            values[name] = parameter.read(given[name]) if name in given else parameter.default
        return values

    def all_steps(self) -> Iterator[Step]:
        """Return the steps of all branches as well."""
        yield from _all(self.steps)


def _all(steps: tuple[Step, ...]) -> Iterator[Step]:
    for step in steps:
        yield step
        for branch in step.branches.values():
            yield from _all(branch)


def references(value: Any) -> Iterator[str]:
    """Return all that `{"Get": ...}` names in a part of a definition."""
    if isinstance(value, Mapping):
        if set(value) == {"Get"}:
            yield str(value["Get"])
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def parse(text: str) -> Definition:
    """Return the pipeline that a JSON text defines.

    Raises:
        InvalidDefinition: naming what is wrong. AWS's words for each case are unknown.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise InvalidDefinition(f"It is no JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("Version") != VERSION:
        raise InvalidDefinition(f"Version must be {VERSION}.")
    parameters = [_parameter(item) for item in raw.get("Parameters", [])]
    steps = _steps(raw.get("Steps"), "Steps")
    definition = Definition({item.name: item for item in parameters}, steps)
    if len(definition.parameters) < len(parameters):
        raise InvalidDefinition("Two parameters have the same name.")
    _check_names(definition)
    return definition


def _parameter(raw: Any) -> Parameter:
    name, kind = raw.get("Name", ""), raw.get("Type", "")
    if not name or kind not in _TYPES:
        raise InvalidDefinition(f"The parameter [{name}] has no type of {', '.join(_TYPES)}.")
    values = tuple(raw.get("EnumValues", ()))
    parameter = Parameter(name, kind, raw.get("DefaultValue"), values)
    if parameter.default is not None:
        parameter.read(parameter.default)
    return parameter


def _steps(raw: Any, where: str) -> tuple[Step, ...]:
    if not isinstance(raw, list) or (not raw and where == "Steps"):
        raise InvalidDefinition(f"{where} must be a list of steps.")
    steps = {step.name: step for step in map(_step, raw)}
    if len(steps) < len(raw):
        raise InvalidDefinition("Two steps have the same name.")
    # Only those of this list: a step of a branch may need one outside.
    graph = {name: step.needs() & steps.keys() for name, step in steps.items()}
    try:
        return tuple(steps[name] for name in TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise InvalidDefinition("The steps need one another in a circle.") from error


def _step(raw: Any) -> Step:
    name, kind = raw.get("Name", ""), raw.get("Type", "")
    if not _STEP_NAME.fullmatch(name):
        raise InvalidDefinition(f"[{name}] is no name of a step.")
    if kind not in _MEMBERS:
        raise InvalidDefinition(
            f"The emulator has no steps of type [{kind}] ({name}), only {', '.join(_MEMBERS)}."
        )
    for member in _MEMBERS[kind]:
        if member not in raw:
            raise InvalidDefinition(f"The step [{name}] has no {member}.")
    return Step(name, kind, raw, _branches(raw) if kind == "Condition" else {})


def _branches(raw: Any) -> dict[bool, tuple[Step, ...]]:
    arguments = raw["Arguments"]
    if not arguments.get("Conditions"):
        raise InvalidDefinition(f"The step [{raw['Name']}] has no Conditions.")
    return {
        True: _steps(arguments.get("IfSteps", []), "IfSteps"),
        False: _steps(arguments.get("ElseSteps", []), "ElseSteps"),
    }


def _check_names(definition: Definition) -> None:
    steps = list(definition.all_steps())
    names = {step.name for step in steps}
    if len(names) < len(steps):
        raise InvalidDefinition("Two steps have the same name.")
    for step in steps:
        for name in step.needs() - names:
            raise InvalidDefinition(f"The step [{step.name}] needs [{name}], which does not exist.")
        for reference in references(step.raw):
            kind, _, name = reference.partition(".")
            if kind not in {"Parameters", "Execution", "Steps"}:
                raise InvalidDefinition(f"{reference} is no reference ({step.name}).")
            if kind == "Parameters" and name not in definition.parameters:
                raise InvalidDefinition(f"The pipeline has no parameter [{name}] ({step.name}).")
