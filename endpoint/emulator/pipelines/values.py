"""The values of a definition in one execution: references, functions and conditions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

# .Name, ['name'] and [0]
_PART = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(?:'([^']*)'|\"([^\"]*)\"|(\d+))\]")


class NoValue(ValueError):
    """A reference leads nowhere; the message says which."""


class Values:
    """What `Get` finds.

    Args:
        parameters: by their names.
        execution: the execution's own: PipelineName, PipelineExecutionId and so on.
        read_json: returns the JSON object at an S3 address.

    Attributes:
        steps: the properties of the steps that have ended.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        execution: Mapping[str, Any],
        read_json: Callable[[str], Any],
    ) -> None:
        self.steps: dict[str, Any] = {}
        self._known = {"Parameters": parameters, "Execution": execution, "Steps": self.steps}
        self._read_json = read_json

    def resolve(self, value: Any) -> Any:
        """Return a part of a definition with all references and functions replaced.

        Raises:
            NoValue: for a reference that leads nowhere.
        """
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        if set(value) == {"Get"}:
            return _find(self._known, str(value["Get"]))
        if set(value) == {"Std:Join"}:
            own = value["Std:Join"]
            return own.get("On", "").join(str(self.resolve(item)) for item in own["Values"])
        if set(value) == {"Std:JsonGet"}:
            return self._json(value["Std:JsonGet"])
        return {key: self.resolve(item) for key, item in value.items()}

    def _json(self, own: Mapping[str, Any]) -> Any:
        # A PropertyFile is of processing steps, which do not exist here.
        if "S3Uri" not in own:
            raise NoValue("Std:JsonGet needs an S3Uri in the emulator.")
        return _find(self._read_json(str(self.resolve(own["S3Uri"]))), own["Path"])

    def holds(self, condition: Mapping[str, Any]) -> bool:
        """Whether a condition holds.

        Raises:
            NoValue: for a reference that leads nowhere, or values that cannot be compared.
        """
        kind = condition["Type"]
        if kind == "Not":
            return not self.holds(condition["Expression"])
        if kind == "Or":
            return any(self.holds(item) for item in condition["Conditions"])
        if kind == "In":
            return self.resolve(condition["QueryValue"]) in self.resolve(condition["Values"])
        if kind not in _COMPARE:
            raise NoValue(f"no such condition: {kind}")
        left, right = (self.resolve(condition[side]) for side in ("LeftValue", "RightValue"))
        try:
            return bool(_COMPARE[kind](left, right))
        except TypeError as error:
            raise NoValue(f"{left!r} and {right!r} cannot be compared") from error


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "Equals": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}


def _find(value: Any, path: str) -> Any:
    position = 0
    while position < len(path):
        match = _PART.match(path, position)
        if match is None:
            raise NoValue(f"{path} is no path")
        position = match.end()
        key: Any = int(match[4]) if match[4] else next(filter(None, match.groups()))
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError) as error:
            raise NoValue(f"{path} has no value") from error
    return value
