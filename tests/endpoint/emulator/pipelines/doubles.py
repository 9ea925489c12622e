"""Definitions of pipelines."""

from __future__ import annotations

import json


def definition(*steps, parameters=()):
    """Return a definition as JSON."""
    return json.dumps({"Version": "2020-12-01", "Parameters": list(parameters), "Steps": steps})


def parameter(name, kind="String", default=None, **more):
    own = {} if default is None else {"DefaultValue": default}
    return {"Name": name, "Type": kind, **own, **more}


def get(path):
    return {"Get": path}


def fail(name="No", message="refused", **more):
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}, **more}


def function(name, arguments=None, outputs=(), function_name=None, **more):
    return {
        "Name": name,
        "Type": "Lambda",
        "FunctionArn": f"arn:aws:lambda:us-east-1:123456789012:function:{function_name or name}",
        "Arguments": arguments or {},
        "OutputParameters": [{"OutputName": item, "OutputType": "String"} for item in outputs],
        **more,
    }


def condition(name, conditions, then=(), otherwise=()):
    arguments = {"Conditions": conditions, "IfSteps": list(then), "ElseSteps": list(otherwise)}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def compare(kind, left, right):
    return {"Type": kind, "LeftValue": left, "RightValue": right}
