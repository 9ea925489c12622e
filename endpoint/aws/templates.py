"""CloudFormation's templates, compared without asking CloudFormation.

A change set is exact, but creating one writes to the account. Two templates with their parameters
show the same resources and properties, except for what depends on resources that are replaced, and
whether a change replaces a resource.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from endpoint.aws.change_sets import Change

_ABSENT = object()  # AWS::NoValue
_NAME = re.compile(r"\$\{(\w+)\}")
# `Action`s, as of CloudFormation's change sets.
_ADD, _MODIFY, _REMOVE = "Add", "Modify", "Remove"


@dataclass(frozen=True)
class _Function:
    """A function such as !GetAtt, by its short name."""

    name: str
    argument: Any


# Reads the short form of CloudFormation's functions as well.
_Loader: Any = type("_Loader", (yaml.SafeLoader,), {})


def _function(loader: Any, suffix: str, node: Any) -> _Function:
    read: dict[type, Callable[[Any], Any]] = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: lambda node: loader.construct_sequence(node, deep=True),
        yaml.MappingNode: lambda node: loader.construct_mapping(node, deep=True),
    }
    return _Function(suffix, read[type(node)](node))


_Loader.add_multi_constructor("!", _function)


def changes(
    before: str, old: Mapping[str, str], after: str, new: Mapping[str, str]
) -> list[Change]:
    """Return what differs between the resources of two templates, in the templates' order.

    Args:
        before: the stack's template, in YAML; empty for a stack that does not exist.
        old: its parameters.
        after: the template of the update.
        new: its parameters; those that it lacks have their defaults.
    """
    earlier, later = _resources(before, old), _resources(after, new)
    found: list[Change] = []
    for name, resource in later.items():
        if name not in earlier:
            found.append(Change(_ADD, name, resource["Type"], "", ()))
        elif properties := _differing(earlier[name], resource):
            found.append(Change(_MODIFY, name, resource["Type"], "", properties))
    removed = [name for name in earlier if name not in later]
    return found + [Change(_REMOVE, name, earlier[name]["Type"], "", ()) for name in removed]


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the properties, and of the attributes of the resource, that differ."""
    parts = []
    for resource in (before, after):
        attributes = {name: value for name, value in resource.items() if name != "Properties"}
        parts.append({**attributes, **resource.get("Properties", {})})
    names = parts[0].keys() | parts[1].keys()
    return tuple(
        sorted(name for name in names if parts[0].get(name, _ABSENT) != parts[1].get(name, _ABSENT))
    )


def _resources(text: str, parameters: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return a template's resources, as far as its parameters say what they are."""
    if not text:
        return {}
    template = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    resolver = _Resolver(template, parameters)
    return {
        name: resolver.resolve({key: part for key, part in resource.items() if key != "Condition"})
        for name, resource in template.get("Resources", {}).items()
        if "Condition" not in resource or resolver.holds(resource["Condition"])
    }


class _Resolver:
    """Replaces what depends on parameters alone; the rest stays as it is written."""

    def __init__(self, template: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        defaults = {
            name: declared["Default"]
            for name, declared in template.get("Parameters", {}).items()
            if "Default" in declared
        }
        self._parameters = {name: str(value) for name, value in {**defaults, **parameters}.items()}
        self._conditions = template.get("Conditions", {})

    def holds(self, condition: Any) -> bool:
        """Whether a condition is true; by its name or its definition."""
        if isinstance(condition, str):
            return self.holds(self._conditions[condition])
        if isinstance(condition, dict):
            return self.holds(condition["Condition"])
        argument = condition.argument
        if condition.name == "Equals":
            left, right = (self.resolve(side) for side in argument)
            return str(left) == str(right)
        results = [self.holds(each) for each in argument] if isinstance(argument, list) else []
        return {
            "And": all(results),
            "Or": any(results),
            "Not": not any(results),
            "Condition": not results and self.holds(argument),
        }[condition.name]

    def resolve(self, value: Any) -> Any:
        """Return a value in which parameters and conditions are what they are set to."""
        if isinstance(value, dict):
            parts = {name: self.resolve(part) for name, part in value.items()}
            return {name: part for name, part in parts.items() if part is not _ABSENT}
        if isinstance(value, list):
            items = [self.resolve(item) for item in value]
            return [item for item in items if item is not _ABSENT]
        return self._result(value) if isinstance(value, _Function) else value

    def _result(self, function: _Function) -> Any:
        name, argument = function.name, function.argument
        if name == "Ref" and argument == "AWS::NoValue":
            return _ABSENT
        if name == "Ref":
            return self._parameters.get(argument, function)
        if name == "If":
            condition, yes, no = argument
            return self.resolve(yes if self.holds(condition) else no)
        if name == "Sub" and isinstance(argument, str):
            known = self._parameters
            return _Function(name, _NAME.sub(lambda m: known.get(m[1], m[0]), argument))
        return _Function(name, self.resolve(argument))
