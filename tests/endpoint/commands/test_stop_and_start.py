from __future__ import annotations

import pytest

from endpoint.commands import start, stop
from endpoint.provision.serving import in_service
from tests.endpoint.doubles import create, names, only_config


@pytest.fixture
def both(world):
    for model in ("sd", "sdxl"):
        assert create(world, "--most-instances", "2", model=model) == 0
    return world


def endpoints(world):
    return set(names(world, "Endpoint"))


def targets(world):
    client = world.client("application-autoscaling")
    response = client.describe_scalable_targets(ServiceNamespace="sagemaker")
    scalable: list[dict] = response["ScalableTargets"]
    return scalable


def test_a_stopped_deployment_has_no_endpoint_and_no_scaling_but_its_configurations(both):
    assert both.run(stop.main, "--yes") == 0
    assert endpoints(both) == set()
    assert targets(both) == []
    assert both.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert len(both.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]) == 2


def test_a_started_deployment_is_as_it_was(both):
    assert both.run(stop.main, "--yes") == 0
    assert both.run(start.main, "--yes") == 0
    assert endpoints(both) == {"easel-main-sd", "easel-main-sdxl"}
    (target,) = targets(both)
    assert target["MaxCapacity"] == 2


def test_one_model_can_be_stopped_and_started(both):
    assert both.run(stop.main, "--model", "sd", "--yes") == 0
    assert endpoints(both) == {"easel-main-sdxl"}
    assert both.run(start.main, "--model", "sd", "--yes") == 0
    assert endpoints(both) == {"easel-main-sd", "easel-main-sdxl"}


def test_starting_prints_the_price_and_asks(both, capsys):
    assert both.run(stop.main, "--yes") == 0
    assert both.run(start.main) == 1
    output = capsys.readouterr().err
    assert "4.018 USD per hour" in output
    assert endpoints(both) == set()


def test_starting_a_running_endpoint_changes_nothing(both):
    assert both.run(start.main, "--yes") == 0
    assert endpoints(both) == {"easel-main-sd", "easel-main-sdxl"}


def test_stopping_without_an_endpoint_succeeds(world, capsys):
    assert world.run(stop.main, "--yes") == 0
    assert "No endpoint is running" in capsys.readouterr().out


def test_starting_without_a_configuration_names_the_command_to_create_one(world, capsys):
    assert world.run(start.main, "--yes") == 1
    assert "python -m endpoint create" in capsys.readouterr().err


def test_an_endpoint_that_a_caller_wakes_meanwhile_is_deleted_as_well(world, monkeypatch):
    assert create(world) == 0
    config = only_config(world)["EndpointConfigName"]
    suspend = in_service.leases.suspend

    def woken(context, name):
        world.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=config)
        suspend(context, name)

    monkeypatch.setattr(in_service.leases, "suspend", woken)
    assert world.run(stop.main, "--yes") == 0
    assert names(world, "Endpoint") == []
