"""What the page shows of a deployed model of the catalogue."""

from __future__ import annotations

import json

import pytest

from endpoint.aws.models import Models
from endpoint.core.console import Console
from endpoint.core.waiting import Waiting
from endpoint.provision.model_facts import of_deployed
from tests.endpoint.doubles import create
from tests.endpoint.world import ACCOUNT

TYPES = ("ml.g4dn.xlarge",)


def shown(world, environment):
    client = world.client("sagemaker")
    client.create_model(
        ModelName="easel-main-sd-0123",
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/easel",
        PrimaryContainer={"Image": "an-image", "Environment": environment},
    )
    models = Models(client, Waiting(world, Console(world)))
    return of_deployed(models, "sd", "easel-main-sd-0123", TYPES)


def test_a_created_model_has_its_facts(world):
    assert create(world, "--quantise", "fp8") == 0
    client = world.client("sagemaker")
    (model,) = client.list_models()["Models"]
    models = Models(client, Waiting(world, Console(world)))
    facts = of_deployed(models, "sd", model["ModelName"], TYPES)
    assert facts["title"] == "Stable Diffusion 1.5"
    assert facts["memory_gb"] == 2.8
    assert facts["instance_types"] == ["ml.g4dn.xlarge"]


@pytest.mark.parametrize(
    "environment", [{}, {"EASEL_DEFAULTS": "{"}, {"EASEL_DEFAULTS": json.dumps({"steps": 7})}]
)
def test_another_model_with_its_name_has_none(world, environment):
    assert shown(world, environment) == {}
