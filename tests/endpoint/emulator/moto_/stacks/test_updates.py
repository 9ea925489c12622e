"""What an update of a stack changes, which moto leaves as it was."""

from __future__ import annotations

import json
import uuid

from endpoint.emulator.lambda_.inline import InlineFunction
from tests.endpoint.emulator.doubles import REGION
from tests.endpoint.world import ACCOUNT


def updated(clients, kind, *versions):
    """Create a stack of one resource, update it to each further version; return its name."""
    name = f"updates-{uuid.uuid4().hex[:8]}"
    cloudformation = clients.get("cloudformation", REGION)
    for write, properties in zip(
        (cloudformation.create_stack, cloudformation.update_stack), versions, strict=True
    ):
        resource = {"Type": kind, "Properties": properties(name)}
        write(StackName=name, TemplateBody=json.dumps({"Resources": {"One": resource}}))
    return name


def test_a_roles_inline_policies_are_changed(clients):
    def role(action):
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        policy = {"PolicyName": "own", "PolicyDocument": {"Statement": [statement]}}
        trust = {"Statement": []}
        return lambda name: {
            "RoleName": name,
            "AssumeRolePolicyDocument": trust,
            "Policies": [policy],
        }

    name = updated(clients, "AWS::IAM::Role", role("s3:GetObject"), role("s3:PutObject"))
    found = clients.get("iam", REGION).get_role_policy(RoleName=name, PolicyName="own")
    assert "s3:PutObject" in str(found["PolicyDocument"])


def test_a_functions_inline_code_still_runs(clients):
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}
    document = json.dumps({"Statement": [{**trust, "Action": "sts:AssumeRole"}]})
    role = f"functions-{uuid.uuid4().hex[:8]}"
    clients.get("iam", REGION).create_role(RoleName=role, AssumeRolePolicyDocument=document)

    def function(answer):
        code = {"ZipFile": f"def handler(event, context):\n    return {answer}\n"}
        return lambda name: {
            "FunctionName": name,
            "Handler": "index.handler",
            "Runtime": "python3.12",
            "Role": f"arn:aws:iam::{ACCOUNT}:role/{role}",
            "Code": code,
        }

    name = updated(clients, "AWS::Lambda::Function", function(1), function(2))
    assert InlineFunction(ACCOUNT, REGION, name).invoke({}, clients.get, lambda: 0.0) == 2
