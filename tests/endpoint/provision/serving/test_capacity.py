"""Quotas as AWS counts them: every instance of the account, and two during an update."""

from __future__ import annotations

import json

import pytest

from endpoint import create_endpoint
from endpoint.commands import deploy, doctor, start, stop
from endpoint.emulator.moto_ import service_quotas
from endpoint.provision.serving.definitions import Serving
from tests.endpoint.doubles import create, names, only_config
from tests.endpoint.world import IMAGE, contents

ONE = ("--instance-type", "ml.g4dn.xlarge")


@pytest.fixture
def quotas(monkeypatch):
    """Set the account's quotas; the region lists no other types."""

    def use(**values):
        values = {f"ml.{name.replace('_', '.')}": value for name, value in values.items()}
        monkeypatch.setattr(service_quotas, "QUOTAS", values)
        monkeypatch.setattr(service_quotas, "LISTED", frozenset())

    return use


def examined(world, capsys, *options):
    """Return the doctor's checks of the quota."""
    capsys.readouterr()
    world.run(doctor.main, "--image", IMAGE, "--json", *options)
    checks = json.loads(capsys.readouterr().out)["checks"]
    return [check for check in checks if check["subject"] == "quota"]


def test_the_doctor_counts_what_is_in_use_and_says_that_an_update_is_refused(world, capsys, quotas):
    quotas(g4dn_xlarge=1.0)
    assert create(world, *ONE) == 0
    (check,) = examined(world, capsys, *ONE)
    assert check["state"] == "note"
    assert check["finding"] == "1 of 1 ml.g4dn.xlarge in use: an update would be refused"
    assert check["advice"].startswith("Ask for 2, or use --replace")
    assert "--desired-value 2" in check["advice"]


def test_the_doctor_finds_no_room_for_another_model(world, capsys, quotas):
    quotas(g4dn_xlarge=1.0)
    assert create(world, *ONE) == 0
    (check,) = examined(world, capsys, "--model", "sd-turbo", *ONE)
    assert (check["state"], check["finding"]) == ("bad", "1 of 1 ml.g4dn.xlarge in use")


def test_another_model_without_room_is_refused_before_anything_is_created(world, capsys, quotas):
    quotas(g4dn_xlarge=1.0)
    assert create(world, *ONE) == 0
    before = contents(world)
    assert create(world, *ONE, model="sd-turbo") == 1
    output = capsys.readouterr().err
    assert "There is no instance left for easel-main-sd-turbo: 1 of 1 ml.g4dn.xlarge" in output
    assert contents(world) == before


def test_other_deployments_and_endpoints_of_other_programs_count(world, capsys, quotas):
    quotas(g4dn_xlarge=2.0)
    assert create(world, *ONE, "--name", "second") == 0
    client = world.client("sagemaker")
    config = only_config(world)["EndpointConfigName"]
    client.create_endpoint(EndpointName="somebodys", EndpointConfigName=config)
    assert create(world, *ONE) == 1
    assert "2 of 2 ml.g4dn.xlarge in use" in capsys.readouterr().err


def test_a_stopped_endpoint_starts_only_if_its_instance_is_free(world, capsys, quotas):
    quotas(g4dn_xlarge=1.0)
    assert create(world, *ONE) == 0
    assert world.run(stop.main, "--yes") == 0
    assert create(world, *ONE, "--name", "second") == 0
    assert world.run(start.main, "--yes") == 1
    assert "There is no instance left for easel-main-sd" in capsys.readouterr().err
    assert names(world, "Endpoint") == ["easel-second-sd"]


def test_creating_the_same_again_needs_no_second_instance(world, quotas):
    quotas(g4dn_xlarge=1.0)
    assert create(world, *ONE) == 0
    assert create(world, *ONE) == 0


def test_types_that_the_region_does_not_list_are_left_out_and_named(world, capsys, quotas):
    quotas(g4dn_xlarge=1.0)
    assert create(world) == 0
    assert only_config(world)["ProductionVariants"][0]["InstanceType"] == "ml.g4dn.xlarge"
    output = capsys.readouterr().err
    assert "does not list them: ml.g6.xlarge, ml.g5.xlarge." in output


def test_if_the_region_lists_none_of_them_sagemaker_decides(world, quotas):
    quotas(p9_xlarge=1.0)
    assert create(world) == 0
    pools = only_config(world)["ProductionVariants"][0]["InstancePools"]
    assert len(pools) == 3


def test_deploy_counts_all_its_models_before_the_first_costs_money(world, capsys, quotas):
    quotas(g4dn_xlarge=1.0)
    arguments = ("--also", "sd-turbo", "--image", IMAGE, "--open", "--yes", *ONE)
    assert world.run(deploy.main, *arguments) == 1
    output = capsys.readouterr().err
    assert "There is no instance left for easel-main-sd-turbo" in output
    assert "with the other models of this command" in output
    assert contents(world) == []


def test_a_refusal_to_list_endpoints_prevents_nothing(world, quotas):
    quotas(g4dn_xlarge=1.0)
    world.fail("ListEndpoints", "AccessDeniedException", times=1)
    assert world.run(create_endpoint.main, "--image", IMAGE, "--yes", *ONE) == 0


@pytest.mark.parametrize(("count", "seconds"), [(2, 1800), (3, 2700), (4, 3600), (5, 3600)])
def test_the_time_to_find_an_instance_is_enough_for_all_types(count, seconds):
    types = tuple(f"ml.g{number}.xlarge" for number in range(count))
    definition = Serving("image", "role", "data/", "loras/", False, types, "jobs/")
    assert definition._instances()["VariantInstanceProvisionTimeoutInSeconds"] == seconds
