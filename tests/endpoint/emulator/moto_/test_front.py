from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.endpoint.emulator.doubles import REGION

ROLE = "arn:aws:iam::123456789012:role/easel"


def test_descriptions_hold_no_empty_values(sagemaker):
    sagemaker.create_model(
        ModelName="plain",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "image"},
    )
    described = sagemaker.describe_model(ModelName="plain")
    assert described["ModelName"] == "plain"
    assert not [name for name, value in described.items() if value in ({}, [], "")]


def test_policies_cannot_be_simulated(clients):
    iam = clients.get("iam", REGION)
    with pytest.raises(ClientError) as caught:
        iam.simulate_principal_policy(
            PolicySourceArn="arn:aws:iam::123456789012:role/easel", ActionNames=["s3:GetObject"]
        )
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_other_form_posts_still_reach_moto(clients):
    identity = clients.get("sts", REGION).get_caller_identity()
    assert identity["Account"] == "123456789012"
