from __future__ import annotations

import json
import os

import boto3
import pytest

from endpoint.emulator.client import EmulatorClient
from endpoint.emulator.process import clients
from endpoint.provision import checks
from tests.emulated_aws import empty_aws
from tests.endpoint.doubles import BUCKET
from tests.endpoint.world import REGION


@pytest.fixture
def ungated_hub(monkeypatch):
    """A hub, without a request to it, whose models need no token."""
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})


@pytest.fixture(scope="module")
def aws():
    """An account with the bucket of a deployment, whose jobs run over HTTP."""
    with empty_aws() as server, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in clients.environment(server.url, REGION).items():
            patch.setenv(name, value)
        EmulatorClient(server.url).set_training(mirror_seconds=0.1)
        bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": BUCKET}}
        boto3.client("cloudformation").create_stack(
            StackName="easel-main",
            TemplateBody=json.dumps({"Resources": {"Bucket": bucket}}),
            Tags=[{"Key": "easel", "Value": "main"}],
        )
        yield server
