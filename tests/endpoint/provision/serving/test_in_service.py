"""Whatever takes an endpoint's scaling away puts it back, or its failure names it."""

from __future__ import annotations

import json

import pytest

from endpoint import delete_endpoint
from endpoint.commands import start, status, stop
from endpoint.emulator.moto_ import service_quotas
from tests.endpoint.doubles import create, names, only_config
from tests.endpoint.world import Crash

NAME = "easel-main-sdxl"
OTHER_TYPE = ("--instance-type", "ml.g6.xlarge")
REFUSED = ("ValidationException", "not today")
# An update that is refused at once, one that fails later, and one that goes on without its script.
TROUBLE = {
    "quota": lambda world: world.fail("UpdateEndpoint", "ResourceLimitExceeded", "no instance"),
    "rollback": lambda world: setattr(world, "update_rolls_back", True),
    "description": lambda world: world.fail("DescribeEndpoint", *REFUSED, after=12, times=1),
}


def limit(world, name=NAME):
    """Return the limit of an endpoint's scaling if all of its parts are there."""
    scaling = world.client("application-autoscaling")
    place = {"ServiceNamespace": "sagemaker"}
    resource = f"endpoint/{name}/variant/AllTraffic"
    targets = scaling.describe_scalable_targets(**place)["ScalableTargets"]
    policies = scaling.describe_scaling_policies(**place)["ScalingPolicies"]
    own = {item["PolicyName"] for item in policies if item["ResourceId"] == resource}
    alarms = world.client("cloudwatch").describe_alarms(AlarmNamePrefix=name)["MetricAlarms"]
    if own != {"backlog", "wake"} or len(alarms) != 1:
        return None
    return next((t["MaxCapacity"] for t in targets if t["ResourceId"] == resource), None)


def config(world, name=NAME):
    return world.client("sagemaker").describe_endpoint(EndpointName=name)["EndpointConfigName"]


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_failed_update_restores_the_scaling_of_the_version_that_serves(world, trouble):
    assert create(world, "--most-instances", "3", model="sdxl") == 0
    before = config(world)
    TROUBLE[trouble](world)
    assert create(world, *OTHER_TYPE, model="sdxl") == 1
    # What an error interrupts may go on in AWS.
    assert limit(world) == (1 if trouble == "description" else 3)
    assert (config(world) == before) == (trouble != "description")


def test_scaling_that_cannot_be_restored_is_named_with_the_command_that_does(world, capsys):
    assert create(world, model="sdxl") == 0
    world.update_rolls_back = True
    world.fail("RegisterScalableTarget", *REFUSED)
    assert create(world, *OTHER_TYPE, model="sdxl") == 1
    output = capsys.readouterr()
    assert "easel-main-sdxl has no scaling, and it could not be restored" in output.err
    assert "`python -m endpoint start --name main --model sdxl` restores it" in output.err
    assert "rolled the update" in output.err


def test_an_update_of_the_same_instance_types_keeps_its_scaling(world, serving_code):
    assert create(world, model="sdxl") == 0
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    assert create(world, "--most-instances", "2", model="sdxl") == 0
    assert "application-autoscaling.DeregisterScalableTarget" not in world.calls
    assert limit(world) == 2


def test_an_update_that_is_refused_for_its_scaling_is_tried_without(world, serving_code):
    assert create(world, model="sdxl") == 0
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    refusal = "The variant(s) must be deregistered as scalable targets with AWS Auto Scaling"
    world.fail("UpdateEndpoint", "ValidationException", refusal, times=1)
    before = config(world)
    assert create(world, model="sdxl") == 0
    assert "application-autoscaling.DeregisterScalableTarget" in world.calls
    assert limit(world) == 1
    assert config(world) != before


def without_scaling(world):
    """Kill an update after it has removed the scaling."""
    assert create(world, "--most-instances", "2", model="sdxl") == 0
    world.crash_after("DeregisterScalableTarget")
    with pytest.raises(Crash):
        create(world, *OTHER_TYPE, model="sdxl")
    world.revive()
    assert limit(world) is None


def test_status_names_an_endpoint_without_scaling_and_the_command_that_repairs_it(world, capsys):
    without_scaling(world)
    capsys.readouterr()
    assert world.run(status.main) == 0
    output = capsys.readouterr().out
    assert "WITHOUT ITS SCALING" in output
    command = "python -m endpoint start --name main --model sdxl"
    assert f"`{command}`" in output
    assert world.run(start.main, "--yes", *command.split()[4:]) == 0
    assert limit(world) == 2
    capsys.readouterr()
    assert world.run(status.main, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["without_scaling"] == []


@pytest.mark.parametrize(
    "script",
    [
        lambda world: create(world, "--instance-type", "ml.g6.xlarge", model="sd"),
        lambda world: world.run(start.main, "--yes"),
        lambda world: world.run(stop.main, "--yes", "--model", "sd"),
    ],
    ids=["create", "start", "stop"],
)
def test_scripts_for_other_models_repair_it_too(world, script):
    without_scaling(world)
    assert script(world) == 0
    assert limit(world) == 2


def test_an_alarm_or_a_limit_that_is_wrong_is_found(world, capsys):
    assert create(world, model="sdxl") == 0
    alarms = world.client("cloudwatch")
    (alarm,) = alarms.describe_alarms()["MetricAlarms"]
    alarms.delete_alarms(AlarmNames=[alarm["AlarmName"]])
    capsys.readouterr()
    assert world.run(status.main, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["without_scaling"] == [NAME]


def test_an_endpoint_of_somebody_else_is_not_said_to_lack_scaling(world, capsys):
    client = world.client("sagemaker")
    assert create(world) == 0
    variant = only_config(world)["ProductionVariants"]
    output = {"S3OutputPath": "s3://somebodys/"}
    client.create_endpoint_config(
        EndpointConfigName="easel-somebodys",
        ProductionVariants=variant,
        AsyncInferenceConfig={"OutputConfig": output},
    )
    client.create_endpoint(EndpointName=NAME, EndpointConfigName="easel-somebodys")
    capsys.readouterr()
    assert world.run(status.main, "--json") == 0
    assert json.loads(capsys.readouterr().out)["without_scaling"] == []


@pytest.mark.parametrize("script", [stop, delete_endpoint])
def test_a_deletion_that_is_refused_restores_the_scaling(world, script, capsys):
    assert create(world, model="sdxl") == 0
    world.fail("DeleteEndpoint", "AccessDeniedException")
    assert world.run(script.main, "--yes") == 1
    assert limit(world) == 1


def test_starting_leaves_endpoints_in_service_as_they_are(world, capsys):
    assert create(world, model="sdxl") == 0
    before = config(world)
    world.update_rolls_back = True
    assert create(world, *OTHER_TYPE, model="sdxl") == 1
    world.update_rolls_back = False
    count = len(world.calls)
    assert world.run(start.main, "--yes") == 0
    assert config(world) == before
    assert "sagemaker-runtime.InvokeEndpointAsync" not in world.calls[count:]
    assert "Already in service: sdxl." in capsys.readouterr().out


def test_stopping_and_starting_restores_the_version_that_served(world):
    assert create(world, model="sdxl") == 0
    before = config(world)
    world.update_rolls_back = True
    assert create(world, *OTHER_TYPE, model="sdxl") == 1
    world.update_rolls_back = False
    assert world.run(stop.main, "--yes") == 0
    assert world.run(start.main, "--yes") == 0
    assert (config(world), limit(world)) == (before, 1)


# --- Replacing ---------------------------------------------------------------------------------


def test_a_quota_of_one_refuses_an_update_before_anything_is_taken_away(
    world, serving_code, capsys, monkeypatch
):
    monkeypatch.setattr(service_quotas, "QUOTAS", {"ml.g6.xlarge": 1.0})
    assert create(world, *OTHER_TYPE, model="sdxl") == 0
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    assert create(world, *OTHER_TYPE, model="sdxl") == 1
    output = capsys.readouterr().err
    assert "1 of 1 ml.g6.xlarge in use" in output
    assert "--replace" in output
    assert "--desired-value 2" in output
    assert "sagemaker.UpdateEndpoint" not in world.calls
    assert limit(world) == 1


def test_replacing_needs_no_second_instance(world, serving_code, capsys, monkeypatch):
    monkeypatch.setattr(service_quotas, "QUOTAS", {"ml.g6.xlarge": 1.0})
    assert create(world, *OTHER_TYPE, model="sdxl") == 0
    before = config(world)
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    assert create(world, *OTHER_TYPE, "--replace", model="sdxl") == 0
    assert "answers nothing for about ten minutes" in capsys.readouterr().err
    assert config(world) != before
    assert (limit(world), len(names(world, "EndpointConfig"))) == (1, 1)


def test_a_replacement_that_fails_brings_the_previous_version_back(world, serving_code):
    assert create(world, model="sdxl") == 0
    before = config(world)
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    world.fail("CreateEndpoint", "ResourceLimitExceeded", "no instance", times=1)
    assert create(world, "--replace", model="sdxl") == 1
    assert (config(world), limit(world)) == (before, 1)
    assert names(world, "EndpointConfig") == [before]


def test_a_refusal_of_the_second_instance_names_the_replacement(world, serving_code, capsys):
    assert create(world) == 0
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    world.fail("UpdateEndpoint", "ResourceLimitExceeded", "The account-level service limit")
    assert create(world) == 1
    assert "create --replace" in capsys.readouterr().err
