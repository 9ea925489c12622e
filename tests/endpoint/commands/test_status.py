from __future__ import annotations

import json

from endpoint import create_endpoint
from endpoint.commands import status
from tests.endpoint.world import IMAGE, World


def create(world: World, *more: str) -> None:
    assert world.run(create_endpoint.main, "--image", IMAGE, "--yes", *more) == 0


def report(world: World, capsys, *more: str) -> dict:
    capsys.readouterr()
    assert world.run(status.main, "--json", *more) == 0
    found: dict = json.loads(capsys.readouterr().out)
    return found


def test_an_empty_account_costs_nothing(world, capsys):
    assert world.run(status.main) == 0
    assert "nothing costs anything" in capsys.readouterr().out


def test_every_deployment_is_shown_unless_one_is_named(world, capsys):
    create(world)
    create(world, "--name", "second")
    everything = report(world, capsys)
    assert {resource["deployment"] for resource in everything["things"]} == {"main", "second"}
    one = report(world, capsys, "--name", "second")
    assert {resource["deployment"] for resource in one["things"]} == {"second"}


def test_an_endpoint_is_shown_with_what_it_costs_and_has_cost(world, capsys):
    create(world, "--instance-type", "ml.g5.xlarge")
    world.seconds = 10 * 3600
    found = report(world, capsys)
    endpoint = found["things"][0]
    assert endpoint["name"] == "easel-main-sd"
    assert endpoint["usd_per_hour"] == 1.408
    assert endpoint["usd_so_far"] == 14.08
    assert "ml.g5.xlarge" in endpoint["remark"]


def test_an_instance_type_of_unknown_price_is_not_called_free(world, capsys):
    create(world, "--instance-type", "ml.g6.48xlarge")
    endpoint = report(world, capsys)["things"]
    (found,) = [resource for resource in endpoint if resource["kind"] == "endpoint"]
    assert found["usd_per_hour"] is None
    assert found["costs"]


def test_all_kinds_of_things_are_found(world, capsys):
    create(world, "--model", "sdxl")
    kinds = {resource["kind"] for resource in report(world, capsys)["things"]}
    assert kinds == {
        "alarm",
        "bucket",
        "endpoint",
        "endpoint configuration",
        "log group",
        "model",
        "scaling of",
        "stack",
    }


def test_what_would_end_the_costs_is_said(world, capsys):
    create(world)
    assert world.run(status.main) == 0
    said = capsys.readouterr().out
    assert "python -m endpoint stop --name main" in said
    assert "python -m endpoint delete --name main" in said


def test_something_unexpected_with_the_tag_is_found(world, capsys):
    world.client("ec2").create_volume(
        AvailabilityZone="us-east-1a",
        Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "easel", "Value": "main"}]}],
    )
    (resource,) = report(world, capsys)["things"]
    assert resource["kind"] == "tagged"
    assert ":volume/" in resource["name"]
    assert resource["costs"]


def test_tags_that_may_not_be_read_are_mentioned(world, capsys):
    world.fail("GetResources", "AccessDeniedException")
    assert "by name only" in report(world, capsys)["notes"][0]


def test_a_bucket_with_unfinished_uploads_can_cost_money(world, capsys):
    create(world)
    bucket = "easel-main-123456789012-us-east-1"
    world.client("s3").create_multipart_upload(Bucket=bucket, Key="x")
    found = [
        resource for resource in report(world, capsys)["things"] if resource["kind"] == "bucket"
    ]
    assert "1 unfinished uploads" in found[0]["remark"]
    assert found[0]["costs"]
