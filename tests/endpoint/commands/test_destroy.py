"""What is not the deployment's stays, whatever its name is."""

from __future__ import annotations

import json

import pytest

from endpoint import create_endpoint, delete_endpoint
from endpoint.commands import deploy, destroy, start, stop
from tests.endpoint.doubles import BUCKET, create, create_api, create_gateway, names
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, contents

pytestmark = pytest.mark.usefixtures("projects")
BOTH = pytest.mark.parametrize("script", [destroy, delete_endpoint])
SHOP = [{"Key": "team", "Value": "shop"}]


def foreign_role(world):
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = world.client("iam").create_role(RoleName="shop", AssumeRolePolicyDocument=document)
    arn: str = role["Role"]["Arn"]
    return arn


def config(world, name, tags=()):
    world.client("sagemaker").create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": names(world, "Model")[0],
                "InstanceType": "ml.g5.xlarge",
                "InitialInstanceCount": 1,
            }
        ],
        Tags=list(tags),
    )


@BOTH
def test_a_bucket_without_a_stack_keeps_its_files(world, script, capsys):
    world.client("s3").create_bucket(Bucket=BUCKET)
    world.client("s3").put_object(Bucket=BUCKET, Key="payroll/2026.csv", Body=b"x")
    before = contents(world)

    assert world.run(script.main, "--yes") == 0
    assert contents(world) == before
    assert world.client("s3").list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
    said = capsys.readouterr()
    assert "Left alone, because they do not have the tag easel=main" in said.err
    assert BUCKET in said.out


@BOTH
def test_another_stack_of_the_name_stays(world, script):
    template = '{"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}'
    world.client("cloudformation").create_stack(
        StackName="easel-main", TemplateBody=template, Tags=SHOP
    )

    assert world.run(script.main, "--yes") == 0
    stacks = world.client("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackStatus"] for stack in stacks] == ["CREATE_COMPLETE"]
    # Nor does creating turn it into Easel's.
    assert create(world) == 1
    assert world.client("cloudformation").describe_stacks()["Stacks"][0]["Tags"] == SHOP


def test_another_endpoint_of_the_name_stays_with_all_that_is_its_own(world):
    assert create(world) == 0
    config(world, "easel-main-recommender-0123abcd", SHOP)
    client = world.client("sagemaker")
    client.create_endpoint(
        EndpointName="easel-main-recommender",
        EndpointConfigName="easel-main-recommender-0123abcd",
        Tags=SHOP,
    )
    group = "/aws/sagemaker/Endpoints/easel-main-recommender"
    world.client("logs").create_log_group(logGroupName=group)
    alarm = "easel-main-recommender-has-backlog-without-capacity"
    world.client("cloudwatch").put_metric_alarm(
        AlarmName=alarm, MetricName="m", Namespace="n", Statistic="Average", Period=60,
        EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip

    assert world.run(stop.main, "--yes") == 0
    assert world.run(start.main, "--yes", "--model", "sd") == 0
    assert create_endpoint.main(
        ["--name", "main", "--model", "org/recommender", "--image", IMAGE, "--yes"],
        session=world.session, clock=world,
    ) == 1  # fmt: skip
    for script in (delete_endpoint, destroy):
        assert world.run(script.main, "--yes", *_model(script)) == 0
    assert names(world, "Endpoint") == ["easel-main-recommender"]
    assert names(world, "EndpointConfig") == ["easel-main-recommender-0123abcd"]
    left = contents(world)
    assert any(group in line for line in left)
    assert any(alarm in line for line in left)
    assert len(left) == 4


def _model(script):
    return ("--model", "recommender") if script is delete_endpoint else ()


@pytest.mark.parametrize(
    "function",
    [
        f"arn:aws:lambda:{REGION}:999999999999:function:easel-main",
        f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:easel-main",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:easel-main2",
    ],
)
def test_an_api_in_front_of_another_function_stays(world, function):
    assert create(world) == 0
    own = create_gateway(world)
    api = create_api(world, function)

    assert own != api
    assert world.run(destroy.main, "--yes") == 0
    assert [item["id"] for item in world.client("apigateway").get_rest_apis()["items"]] == [api]


def test_another_function_of_the_name_stays_with_its_api_and_is_not_deployed_over(world, capsys):
    assert create(world) == 0
    api = create_gateway(world, foreign_role(world), Tags={"team": "shop"})

    assert world.run(deploy.main, "--yes", "--image", IMAGE) == 1
    assert "Lambda function easel-main" in capsys.readouterr().err
    assert world.run(destroy.main, "--yes") == 0
    functions = world.client("lambda").list_functions()["Functions"]
    assert [item["FunctionName"] for item in functions] == ["easel-main"]
    assert [item["id"] for item in world.client("apigateway").get_rest_apis()["items"]] == [api]


def test_a_function_with_the_tag_goes_whatever_its_role(world):
    create_gateway(world, foreign_role(world), Tags={"easel": "main"})

    assert world.run(destroy.main, "--yes") == 0
    assert [line.partition(":")[0] for line in contents(world)] == ["Roles"]


@BOTH
def test_what_will_be_deleted_is_shown_before_the_question(world, script, capsys):
    assert create(world) == 0
    capsys.readouterr()

    # Without --yes, and not at a terminal, the question is the end.
    assert world.run(script.main) == 1
    said = capsys.readouterr().err
    shown, _, _ = said.partition("Delete all of it")
    for kind in (f"bucket {BUCKET}", "stack easel-main", "endpoint easel-main-sd"):
        assert kind in shown
    assert names(world, "Endpoint") == ["easel-main-sd"]


@pytest.mark.parametrize(
    ("script", "option"),
    [
        (script, option)
        for script in (destroy, delete_endpoint, stop, deploy, create_endpoint)
        for option in ("name", "region", "profile")
    ]
    + [(delete_endpoint, "model"), (stop, "model"), (start, "model"), (deploy, "also")],
)
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_option_is_not_its_default(world, capsys, script, option, value):
    before = contents(world)
    assert world.run(script.main, "--yes", f"--{option}", value) == 2
    assert f"--{option} is empty" in capsys.readouterr().err
    assert contents(world) == before
    assert world.calls == []
