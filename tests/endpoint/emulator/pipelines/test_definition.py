"""What a definition may say."""

from __future__ import annotations

import json

import pytest

from endpoint.emulator.pipelines.definition import InvalidDefinition, parse
from tests.endpoint.emulator.pipelines.doubles import (
    compare,
    condition,
    definition,
    fail,
    function,
    get,
    parameter,
)


def test_steps_run_after_those_that_they_name():
    text = definition(
        function("c", {"a": get("Steps.b.OutputParameters['x']")}),
        condition("b", [compare("Equals", get("Steps.a.OutputParameters['x']"), 1)], [fail("d")]),
        function("e", DependsOn=["c"]),
        function("a", outputs=["x"]),
    )
    assert [step.name for step in parse(text).steps] == ["a", "b", "c", "e"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("String", "7", "7"),
        ("Integer", "7", 7),
        ("Float", "7", 7),
        ("Float", "0.5", 0.5),
        ("Boolean", "True", True),
    ],
)
def test_parameters_have_their_types(kind, text, value):
    pipeline = parse(definition(fail(), parameters=[parameter("p", kind)]))
    assert pipeline.values({"p": text}) == {"p": value}


def test_a_default_is_used_where_nothing_is_given():
    text = definition(fail(), parameters=[parameter("p", "Integer", 3), parameter("q", default="")])
    assert parse(text).values({}) == {"p": 3, "q": ""}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"p": "x"}, "no Integer"),
        ({"p": "true"}, "no Integer"),
        ({"p": "1.5"}, "no Integer"),
        ({"p": "4"}, "EnumValues"),
        ({}, "no default value"),
        ({"p": "1", "q": "1"}, r"no parameter \[q\]"),
    ],
)
def test_what_an_execution_cannot_give(given, words):
    pipeline = parse(definition(fail(), parameters=[parameter("p", "Integer", EnumValues=[1, 2])]))
    with pytest.raises(InvalidDefinition, match=words):
        pipeline.values(given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[]", "Version must be 2020-12-01"),
        (json.dumps({"Version": "2020-12-01"}), "must be a list of steps"),
        (definition(), "must be a list of steps"),
        (definition(fail("a b")), r"\[a b\] is no name"),
        (definition({"Name": "a", "Type": "Magic"}), r"type \[Magic\]"),
        (definition({"Name": "a", "Type": "Lambda", "Arguments": {}}), "no FunctionArn"),
        (definition(fail("a"), fail("a")), "same name"),
        (definition(fail("a"), condition("b", [compare("Equals", 1, 1)], [fail("a")])), "same"),
        (definition(condition("a", [])), "no Conditions"),
        (definition(fail("a", DependsOn=["b"])), r"needs \[b\], which does not exist"),
        (definition(fail("a", get("Steps.b.Outcome"))), r"needs \[b\]"),
        (definition(fail("a", get("Parameters.p"))), r"no parameter \[p\]"),
        (definition(fail("a", get("Else.p"))), "no reference"),
        (definition(fail("a", DependsOn=["b"]), fail("b", DependsOn=["a"])), "in a circle"),
        (definition(fail(), parameters=[parameter("p", "Magic")]), "has no type"),
        (definition(fail(), parameters=[parameter("p"), parameter("p")]), "same name"),
        (definition(fail(), parameters=[parameter("p", "Integer", "x")]), "no Integer"),
    ],
)
def test_what_is_refused_is_named(text, words):
    with pytest.raises(InvalidDefinition, match=words):
        parse(text)
