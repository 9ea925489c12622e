"""The lease of an endpoint from the scripts' side, and the cap."""

from __future__ import annotations

import json

import pytest

from endpoint.catalogue import prices
from endpoint.commands import start, status, stop
from endpoint.core.leases import Lease
from endpoint.emulator.lambda_.inline import InlineFunction
from tests.endpoint.doubles import BUCKET, create
from tests.endpoint.world import ACCOUNT, REGION, Crash, role_policy
from tests.policies import iam

NAME, GROUP = "easel-main-sd", "easel-main"


def schedule(world):
    return world.client("scheduler").get_schedule(GroupName=GROUP, Name=NAME)


def spend(world, usd, cap=5.0):
    """Let the guard have counted this."""
    counted = {"month": "2026-11", "usd": usd, "cap_usd": cap, "state": "under", "updated": 0}
    body = json.dumps(counted).encode()
    world.client("s3").put_object(Bucket=BUCKET, Key="spend/2026-11.json", Body=body)


@pytest.mark.parametrize(
    ("text", "hours"), [("8h", 8), ("30m", 0.5), ("2d", 48), ("1.5h", 1.5), ("never", None)]
)
def test_a_lease_is_read_as_it_is_written(text, hours):
    assert Lease.parse(text).hours == hours
    assert Lease.parse(str(Lease.parse(text))) == Lease.parse(text)


@pytest.mark.parametrize("text", ["", "8", "h", "-1h", "0h", "29m", "32d", "1e9h", "nan", "never "])
def test_another_lease_is_refused(text):
    with pytest.raises(ValueError, match="is no lease"):
        Lease.parse(text)


def test_a_schedule_has_botocores_shape_and_deletes_exactly_this_endpoint(world):
    assert create(world) == 0
    target = schedule(world)["Target"]
    assert target["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
    assert target["RoleArn"].endswith(":role/easel-main-lease-us-east-1")
    given = json.loads(target["Input"])
    # Scheduler passes it on to SageMaker, whose shape botocore knows.
    shape = world.client("sagemaker").meta.service_model.operation_model("DeleteEndpoint")
    assert set(given) == set(shape.input_shape.members) == {"EndpointName"}
    assert given["EndpointName"] == NAME


def test_the_schedule_exists_before_the_endpoint_and_counts_from_its_service_on(world):
    assert create(world) == 0
    calls = world.calls
    assert calls.index("scheduler.CreateSchedule") < calls.index("sagemaker.CreateEndpoint")
    left = world.moment_of(schedule(world)["ScheduleExpression"]) - world.now()
    assert left.total_seconds() == pytest.approx(2 * 3600, abs=5)


def test_a_run_that_dies_right_after_create_endpoint_leaves_an_endpoint_that_ends(world):
    world.schedules_run = True
    world.crash_after("CreateEndpoint")
    with pytest.raises(Crash):
        create(world)
    world.revive()
    assert len(world.client("sagemaker").list_endpoints()["Endpoints"]) == 1
    world.sleep(2 * 3600 + 60)
    assert world.client("sagemaker").list_endpoints()["Endpoints"] == []


def test_never_is_said_with_the_price_of_a_month(world, capsys):
    assert create(world, "--lease", "never") == 0
    said = capsys.readouterr().err
    assert said.count("WITHOUT A LEASE: easel-main-sd costs") == 1
    assert "1028 per month" in said
    assert schedule(world)["State"] == "DISABLED"


def test_a_lease_stays_as_it_is_until_it_is_changed_and_stop_switches_it_off(world, capsys):
    assert create(world, "--lease", "8h") == 0
    assert world.run(stop.main, "--yes") == 0
    assert (schedule(world)["State"], _hours(world)) == ("DISABLED", 8)
    assert world.run(start.main, "--yes") == 0
    assert (schedule(world)["State"], _hours(world)) == ("ENABLED", 8)
    assert world.run(start.main, "--yes", "--lease", "30m") == 0
    assert _hours(world) == 0.5
    assert world.run(status.main) == 0
    assert (
        "lease easel-main-sd, 30m of idleness; deletes its endpoint at" in capsys.readouterr().out
    )


def _hours(world):
    return json.loads(schedule(world)["Description"])["hours"]


def test_an_asynchronous_endpoint_has_no_schedule_and_says_its_price(world):
    assert create(world, model="sdxl") == 0
    (item,) = world.client("scheduler").list_schedules()["Schedules"]
    assert item["Name"] == "guard"
    (endpoint,) = world.client("sagemaker").list_endpoints()["Endpoints"]
    tags = world.client("sagemaker").list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"]
    assert {"Key": "easel:usd-per-hour", "Value": "2.61"} in tags


def test_during_an_update_the_price_is_that_of_the_dearer_fleet(world):
    assert create(world, "--instance-type", "ml.g6e.xlarge") == 0
    world.forget_calls()
    assert create(world, "--instance-type", "ml.g4dn.xlarge") == 0
    steps = [
        arguments["Tags"][0]["Value"] if model.name == "AddTags" else model.name
        for model, arguments in world.requests
        if model.name in ("AddTags", "UpdateEndpoint")
    ]
    assert steps == ["2.61", "UpdateEndpoint", "0.736"]


def test_the_guard_has_the_price_of_every_type(world):
    assert create(world) == 0
    function = world.client("lambda").get_function(FunctionName="easel-main-guard")
    variables = function["Configuration"]["Environment"]["Variables"]
    types = {**prices.instance_types(), **prices.cpu_types()}
    assert json.loads(variables["PRICES"]) == {
        name: each.usd_per_hour for name, each in types.items()
    }


def test_over_the_cap_nothing_is_created_or_started_until_it_is_raised(world, capsys):
    assert create(world, "--monthly-cap", "5") == 0
    assert world.run(stop.main, "--yes") == 0
    spend(world, 5.25)
    assert world.run(start.main, "--yes") == 1
    said = capsys.readouterr().err
    assert "The monthly cap of 5 USD is reached: 5.25 USD are spent." in said
    assert "--monthly-cap" in said
    assert world.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert create(world, "--monthly-cap", "9") == 0
    function = world.client("lambda").get_function(FunctionName="easel-main-guard")
    variables = function["Configuration"]["Environment"]["Variables"]
    assert str(variables["CAP"]) == "9"  # moto keeps numbers
    assert len(world.client("sagemaker").list_endpoints()["Endpoints"]) == 1


def test_a_cap_needs_prices(world, capsys):
    more = ("--instance-type", "ml.g6.48xlarge", "--monthly-cap", "5")
    assert create(world, *more) == 1
    assert "no monthly cap can be kept" in capsys.readouterr().err
    assert world.client("sagemaker").list_endpoints()["Endpoints"] == []


def test_status_says_what_the_month_has_cost(world, capsys):
    assert create(world, "--monthly-cap", "5") == 0
    spend(world, 1.5)
    assert world.run(status.main) == 0
    assert "spent in 2026-11: 1.50 of 5 USD, the monthly cap" in capsys.readouterr().out


def test_every_statement_of_the_leases_role_and_the_guards_is_needed_and_none_is_missing(world):
    assert create(world, "--monthly-cap", "5", "--email", "a@b.example") == 0
    arn = f"arn:aws:s3:::{BUCKET}"
    log = iam.ARN.format("logs", "log-group:/aws/lambda/easel-main-guard:log-stream:1")
    by_aws = [
        *(iam.Request(f"logs:{action}", log) for action in ("CreateLogStream", "PutLogEvents")),
        # A file that does not exist yet, which S3 tells from a forbidden one by this.
        iam.Request("s3:ListBucket", arn, {"s3:prefix": "spend/2026-11.json"}),
    ]
    # Such a job runs in test_batch.py.
    job = iam.ARN.format("sagemaker", "training-job/easel-main-batch-0123456789ab-1")
    jobs = [iam.Request(f"sagemaker:{name}TrainingJob", job) for name in ("Describe", "Stop")]
    begun = len(world.requests)
    guard = InlineFunction(ACCOUNT, REGION, "easel-main-guard")
    guard.invoke({}, world.session.client, lambda: world.now().timestamp())
    counted = world.client("s3").get_object(Bucket=BUCKET, Key="spend/2026-11.json")["Body"].read()
    spent = json.dumps(json.loads(counted) | {"pictures_usd": 6})
    world.client("s3").put_object(Bucket=BUCKET, Key="spend/2026-11.json", Body=spent)
    # The cap is reached now: a mail, and the endpoint is deleted.
    guard.invoke({}, world.session.client, lambda: world.now().timestamp())
    made = [each for call in world.requests[begun:] for each in iam.requests_of(*call)]
    _is_exactly_needed(world, "guard", [*made, *by_aws, *jobs])

    world.schedules_run = True
    world.sleep(2 * 3600 + 60)
    _is_exactly_needed(world, "lease", world.of_schedules)


def _is_exactly_needed(world, name, requests):
    """Check that a role allows requests, and that none of its actions is left over."""
    policy = role_policy(world.client("iam"), f"easel-main-{name}-{REGION}", name)
    assert iam.refused(policy, requests) == []
    for statement in policy["Statement"]:
        rest = [other for other in policy["Statement"] if other is not statement]
        assert iam.refused({"Statement": rest}, requests), statement["Sid"]
        assert set(statement["Action"]) <= {request.action for request in requests}
