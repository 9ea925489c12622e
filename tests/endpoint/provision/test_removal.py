"""What AWS does late while a deployment is deleted."""

from __future__ import annotations

import pytest

from endpoint import delete_endpoint
from endpoint.commands import destroy
from endpoint.emulator.sagemaker.faults import Fault
from tests.endpoint.doubles import create, create_api, create_gateway
from tests.endpoint.world import ACCOUNT, REGION, aws_error, aws_response

pytestmark = pytest.mark.usefixtures("projects")
GROUP = "/aws/sagemaker/Endpoints/easel-main-sd"


def _tagged(*arns):
    return lambda _: aws_response(
        {"ResourceTagMappingList": [{"ResourceARN": arn} for arn in arns]}
    )


def test_the_stack_goes_after_the_interfaces_in_its_network(world):
    assert create(world) == 0
    begun, calls = world.seconds, []

    def with_group(_params, parsed):
        for stack in parsed["Stacks"]:
            stack["Outputs"].append({"OutputKey": "SecurityGroupId", "OutputValue": "sg-1"})

    def interfaces(params):
        assert params["Filters"] == [{"Name": "group-id", "Values": ["sg-1"]}]
        calls.append(len(world.calls))
        busy = world.seconds < begun + 300
        return aws_response(
            {"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1"}] if busy else []}
        )

    world._after_describe_stacks = with_group
    world._before_describe_network_interfaces = interfaces
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert len(calls) > 1
    assert world.calls.index("cloudformation.DeleteStack") > calls[-1] - 1
    assert world.calls.index("sagemaker.DeleteEndpoint") < calls[0]


def test_interfaces_that_stay_are_an_error_that_says_what_to_do(world, capsys):
    assert create(world) == 0
    world._after_describe_stacks = lambda _params, parsed: parsed["Stacks"][0]["Outputs"].append(
        {"OutputKey": "SecurityGroupId", "OutputValue": "sg-1"}
    )
    world._before_describe_network_interfaces = lambda _: aws_response({"NetworkInterfaces": [{}]})
    assert world.run(delete_endpoint.main, "--yes") == 1
    assert "1 network interfaces are being removed" in capsys.readouterr().err
    assert "cloudformation.DeleteStack" not in world.calls


def test_a_log_group_that_comes_back_is_deleted_again(world, capsys):
    assert create(world) == 0
    logs = world.client("logs")

    # The last search by tag comes after the stack is gone.
    again = iter([True])

    def search(_params):
        if "cloudformation.DeleteStack" in world.calls and next(again, False):
            logs.create_log_group(logGroupName=GROUP)

    world._before_list_endpoints = search
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert logs.describe_log_groups()["logGroups"] == []
    assert "Everything is deleted" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:ec2:{REGION}:{ACCOUNT}:subnet/subnet-1",
        f"arn:aws:budgets::{ACCOUNT}:budget/easel-main-{REGION}",
    ],
)
def test_what_only_the_tag_index_still_lists_is_not_left(world, arn):
    assert create(world) == 0
    world._before_get_resources = _tagged(arn)
    assert world.run(delete_endpoint.main, "--yes") == 0


def test_what_the_tag_index_lists_for_a_moment_is_not_left(world):
    assert create(world) == 0
    arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:topic"
    seen = iter([arn, arn, arn])
    world._before_get_resources = lambda params: _tagged(*filter(None, [next(seen, None)]))(params)
    assert world.run(delete_endpoint.main, "--yes") == 0


def test_a_tagged_resource_that_exists_is_left(world, capsys):
    assert create(world) == 0
    arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:topic"
    world._before_get_resources = _tagged(arn)
    assert world.run(delete_endpoint.main, "--yes") == 1
    assert arn in capsys.readouterr().out


def test_apis_are_deleted_one_every_half_minute(world):
    assert create(world) == 0
    create_gateway(world)
    last = [-100.0]

    def delete(_params):
        if world.seconds - last[0] < 30:
            fault = Fault("refused", code="TooManyRequestsException", status=429)
            return aws_error(fault)
        last[0] = world.seconds
        return None

    for _ in range(2):
        create_api(world, f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:easel-main")
    world._before_delete_rest_api = delete
    assert world.run(destroy.main, "--yes") == 0
    assert world.client("apigateway").get_rest_apis()["items"] == []


def test_a_role_whose_policy_is_not_known_yet_is_waited_for(world):
    message = "The role does not have BatchGetImage permission for the image"
    world.fail("CreateModel", "ValidationException", message, times=4)
    assert create(world) == 0
