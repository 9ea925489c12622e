"""References, functions and conditions of a definition."""

from __future__ import annotations

import pytest

from endpoint.emulator.pipelines.values import NoValue, Values
from tests.endpoint.emulator.pipelines.doubles import compare, get


@pytest.fixture
def values():
    values = Values(
        {"size": 3, "name": "owl"},
        {"PipelineExecutionId": "abc"},
        {"s3://bucket/abc.json": {"owls": [{"age": 7}]}}.__getitem__,
    )
    values.steps["Train"] = {"Artifacts": {"Uri": "s3://x"}, "List": [1, 2]}
    values.steps["check"] = {"OutputParameters": {"a b": "yes"}}
    return values


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (get("Parameters.size"), 3),
        (get("Execution.PipelineExecutionId"), "abc"),
        (get("Steps.Train.Artifacts.Uri"), "s3://x"),
        (get("Steps.Train.List[1]"), 2),
        (get("Steps.check.OutputParameters['a b']"), "yes"),
        ({"Std:Join": {"On": "/", "Values": ["a", get("Parameters.size"), "b"]}}, "a/3/b"),
        ({"Std:Join": {"Values": ["a", "b"]}}, "ab"),
        ([{"deep": get("Parameters.name")}], [{"deep": "owl"}]),
        (
            {
                "Std:JsonGet": {
                    "S3Uri": {
                        "Std:Join": {
                            "Values": [
                                "s3://bucket/",
                                get("Execution.PipelineExecutionId"),
                                ".json",
                            ]
                        }
                    },
                    "Path": "owls[0].age",
                }
            },
            7,
        ),
    ],
)
def test_a_value_is_found(values, value, result):
    assert values.resolve(value) == result


@pytest.mark.parametrize(
    "path",
    ["Parameters.no", "Steps.Train.List[5]", "Steps.Other.x", "Steps.Train.List.x", "Steps['"],
)
def test_a_reference_that_leads_nowhere_is_named(values, path):
    with pytest.raises(NoValue, match="Parameters|Steps"):
        values.resolve(get(path))


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        (compare("Equals", get("Parameters.size"), 3), True),
        (compare("GreaterThan", get("Parameters.size"), 3), False),
        (compare("GreaterThanOrEqualTo", get("Parameters.size"), 3), True),
        (compare("LessThan", get("Parameters.size"), 3), False),
        (compare("LessThanOrEqualTo", 2, get("Parameters.size")), True),
        ({"Type": "In", "QueryValue": get("Parameters.name"), "Values": ["owl", "cat"]}, True),
        ({"Type": "Not", "Expression": compare("Equals", 1, 1)}, False),
        ({"Type": "Or", "Conditions": [compare("Equals", 1, 2), compare("Equals", 1, 1)]}, True),
        ({"Type": "Or", "Conditions": [compare("Equals", 1, 2)]}, False),
    ],
)
def test_conditions_compare(values, condition, result):
    assert values.holds(condition) is result


@pytest.mark.parametrize("condition", [compare("LessThan", "a", 1), {"Type": "Magic"}])
def test_what_cannot_be_compared_is_no_condition(values, condition):
    with pytest.raises(NoValue):
        values.holds(condition)
