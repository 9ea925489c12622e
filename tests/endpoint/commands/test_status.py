from __future__ import annotations

import json

from endpoint.commands import status
from tests.endpoint.doubles import BUCKET, create


def report(world, capsys, *more):
    capsys.readouterr()
    assert world.run(status.main, "--json", *more) == 0
    data: dict = json.loads(capsys.readouterr().out)
    return data


def test_an_empty_account_costs_nothing(world, capsys):
    assert world.run(status.main) == 0
    assert "nothing costs anything" in capsys.readouterr().out


def test_every_deployment_is_shown_unless_one_is_named(world, capsys):
    assert create(world) == 0
    assert create(world, "--name", "second") == 0
    everything = report(world, capsys)
    assert {resource["deployment"] for resource in everything["things"]} == {"main", "second"}
    one = report(world, capsys, "--name", "second")
    assert {resource["deployment"] for resource in one["things"]} == {"second"}


def test_an_endpoint_is_shown_with_what_it_costs_and_has_cost(world, capsys):
    assert create(world, "--instance-type", "ml.g5.xlarge") == 0
    world.seconds = 10 * 3600
    endpoint = report(world, capsys)["things"][0]
    assert endpoint["name"] == "easel-main-sd"
    assert endpoint["usd_per_hour"] == 1.408
    assert endpoint["usd_so_far"] == 14.08
    assert "ml.g5.xlarge" in endpoint["remark"]


def test_an_instance_type_of_unknown_price_is_not_called_free(world, capsys):
    assert create(world, "--instance-type", "ml.g6.48xlarge") == 0
    resources = report(world, capsys)["things"]
    (endpoint,) = [resource for resource in resources if resource["kind"] == "endpoint"]
    assert endpoint["usd_per_hour"] is None
    assert endpoint["costs"]


def test_all_kinds_of_resources_are_listed(world, capsys):
    assert create(world, model="sdxl") == 0
    kinds = {resource["kind"] for resource in report(world, capsys)["things"]}
    assert kinds == {
        "alarm",
        "bucket",
        "build project",
        "endpoint",
        "endpoint configuration",
        "guard",
        "image repository",
        "log group",
        "model",
        "rule",
        "scaling of",
        "stack",
    }


def test_the_commands_that_end_the_costs_are_printed(world, capsys):
    assert create(world) == 0
    assert world.run(status.main) == 0
    output = capsys.readouterr().out
    assert "python -m endpoint stop --name main" in output
    assert "python -m endpoint delete --name main" in output


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


def test_denied_access_to_tags_is_reported(world, capsys):
    world.fail("GetResources", "AccessDeniedException")
    assert "by name only" in report(world, capsys)["notes"][0]


def test_a_bucket_with_unfinished_uploads_can_cost_money(world, capsys):
    assert create(world) == 0
    world.client("s3").create_multipart_upload(Bucket=BUCKET, Key="x")
    resources = report(world, capsys)["things"]
    (bucket,) = [resource for resource in resources if resource["name"] == BUCKET]
    assert "1 unfinished uploads" in bucket["remark"]
    assert bucket["costs"]
