from __future__ import annotations

import json

import pytest

from endpoint import create_endpoint
from endpoint.aws.scaling import alarm_name
from endpoint.emulator.moto_ import service_quotas
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, World, contents

BUCKET = f"easel-main-{ACCOUNT}-{REGION}"
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
    " Please retry using a different ML instance type or after some time."
)
UNHEALTHY = (
    "The primary container for production variant AllTraffic did not pass the ping health check."
    " Please check CloudWatch logs for this endpoint."
)


def create(world: World, *more: str, model: str = "sd") -> int:
    return world.run(create_endpoint.main, "--model", model, "--image", IMAGE, "--yes", *more)


def model_of(world: World, endpoint: str) -> dict:
    client = world.client("sagemaker")
    name = client.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    variant = config_of(world, name)["ProductionVariants"][0]
    return client.describe_model(ModelName=variant["ModelName"])


def config_of(world: World, name: str) -> dict:
    return world.client("sagemaker").describe_endpoint_config(EndpointConfigName=name)


def only_config(world: World) -> dict:
    (item,) = world.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]
    return config_of(world, item["EndpointConfigName"])


def test_an_endpoint_is_created_and_its_price_told(world, capsys):
    assert create(world) == 0
    said = capsys.readouterr()
    assert "easel-main-sd serves Stable Diffusion 1.5" in said.out
    assert "USD per hour" in said.out
    assert "creating (3 min 00 s)" in said.err


def test_the_container_is_told_what_it_needs_and_no_secret(world, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert create(world) == 0
    container = model_of(world, "easel-main-sd")["PrimaryContainer"]
    environment = container["Environment"]
    assert environment["SAGEMAKER_PROGRAM"] == "inference.py"
    assert environment["SAGEMAKER_MODEL_SERVER_WORKERS"] == "1"
    assert environment["EASEL_MODEL_ID"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert len(environment["EASEL_MODEL_REVISION"]) == 40
    assert json.loads(environment["EASEL_DEFAULTS"])["steps"] == 25
    assert "HF_MODEL_ID" not in environment
    assert "hf_secret" not in json.dumps(container)
    source = container["ModelDataSource"]["S3DataSource"]
    assert source["S3Uri"].startswith(f"s3://{BUCKET}/models/sd/")
    assert source["S3Uri"].endswith("/")
    assert source["CompressionType"] == "None"


def test_the_serving_code_lies_below_code_in_the_bucket(world):
    assert create(world) == 0
    keys = [item["Key"] for item in
            world.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]  # fmt: skip
    assert [key.split("/", 3)[3] for key in keys] == ["code/generation.py", "code/inference.py"]


def test_several_instance_types_become_pools_in_order_of_preference(world):
    assert create(world) == 0
    variant = only_config(world)["ProductionVariants"][0]
    assert [pool["InstanceType"] for pool in variant["InstancePools"]] == [
        "ml.g4dn.xlarge",
        "ml.g6.xlarge",
        "ml.g5.xlarge",
    ]
    assert [pool["Priority"] for pool in variant["InstancePools"]] == [1, 2, 3]


def test_one_instance_type_is_asked_for_alone(world):
    assert create(world, "--instance-type", "ml.g6.xlarge") == 0
    variant = only_config(world)["ProductionVariants"][0]
    assert variant["InstanceType"] == "ml.g6.xlarge"
    assert "InstancePools" not in variant


def test_an_asynchronous_model_scales_to_zero_and_wakes_on_its_backlog(world):
    assert create(world, "--most-instances", "3", model="sdxl") == 0
    assert only_config(world)["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == (
        f"s3://{BUCKET}/jobs/sdxl/outputs/"
    )
    scaling = world.client("application-autoscaling")
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 3)
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    by_type = {policy["PolicyType"]: policy for policy in policies}
    assert set(by_type) == {"TargetTrackingScaling", "StepScaling"}
    (alarm,) = world.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert alarm["AlarmName"] == alarm_name("easel-main-sdxl")
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["Threshold"] == 1
    assert alarm["AlarmActions"] == [by_type["StepScaling"]["PolicyARN"]]


def test_an_asynchronous_endpoint_is_updated_without_its_scaling_and_scaled_again(
    world, serving_code
):
    assert create(world, model="sdxl") == 0
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    assert create(world, model="sdxl") == 0
    made = world.calls
    assert made.index("application-autoscaling.DeregisterScalableTarget") < made.index(
        "sagemaker.UpdateEndpoint"
    )
    scaling = world.client("application-autoscaling")
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert len(world.client("cloudwatch").describe_alarms()["MetricAlarms"]) == 1


def test_everything_that_can_carry_a_tag_carries_easels(world):
    assert create(world, model="sdxl") == 0
    client = world.client("sagemaker")
    arns = [item["EndpointArn"] for item in client.list_endpoints()["Endpoints"]]
    arns += [item["ModelArn"] for item in client.list_models()["Models"]]
    arns.append(only_config(world)["EndpointConfigArn"])
    for arn in arns:
        tags = client.list_tags(ResourceArn=arn)["Tags"]
        assert {"Key": "easel", "Value": "main"} in tags, arn
    (stack,) = world.client("cloudformation").describe_stacks()["Stacks"]
    assert {"Key": "easel", "Value": "main"} in stack["Tags"]
    groups = world.client("logs").describe_log_groups(logGroupNamePrefix="/aws/sagemaker")
    assert groups["logGroups"][0]["retentionInDays"] == 30


def test_creating_again_changes_nothing(world):
    assert create(world) == 0
    before = contents(world)
    count = len(world.calls)
    assert create(world) == 0
    assert contents(world) == [line.replace("CREATE_", "UPDATE_") for line in before]
    changed = {call for call in world.calls[count:] if ".Create" in call and "LogGroup" not in call}
    assert changed == set()


def test_two_deployments_live_beside_each_other(world):
    assert create(world) == 0
    assert create(world, "--name", "second") == 0
    names = [item["EndpointName"] for item in
             world.client("sagemaker").list_endpoints()["Endpoints"]]  # fmt: skip
    assert sorted(names) == ["easel-main-sd", "easel-second-sd"]


def test_a_second_model_keeps_the_first(world):
    assert create(world) == 0
    assert create(world, model="sd-turbo") == 0
    assert len(world.client("sagemaker").list_models()["Models"]) == 2


# --- Refusals before anything is changed -------------------------------------------------------


def test_nothing_is_changed_unless_somebody_agrees(world, capsys):
    assert world.run(create_endpoint.main, "--image", IMAGE) == 1
    assert "Pass --yes" in capsys.readouterr().err
    assert contents(world) == []


def test_a_quota_of_zero_is_found_before_anything_is_made(world, capsys, monkeypatch):
    types = ("ml.g4dn.xlarge", "ml.g6.xlarge", "ml.g5.xlarge")
    monkeypatch.setattr(service_quotas, "QUOTAS", dict.fromkeys(types, 0.0))
    assert create(world) == 1
    said = capsys.readouterr().err
    assert "quota is 0" in said
    assert "aws service-quotas request-service-quota-increase" in said
    assert "nothing costs anything" in said
    assert contents(world) == []


def test_a_type_without_quota_is_passed_over(world, monkeypatch):
    monkeypatch.setattr(service_quotas, "QUOTAS", {"ml.g4dn.xlarge": 0.0, "ml.g6.xlarge": 0.0})
    assert create(world) == 0
    assert only_config(world)["ProductionVariants"][0]["InstanceType"] == "ml.g5.xlarge"


def test_quotas_that_may_not_be_read_keep_nobody_from_deploying(world, capsys):
    world.fail("ListServiceQuotas", "AccessDeniedException")
    assert create(world) == 0
    assert "not checked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nothing"], "there is no model 'nothing'"),
        (["--private-network"], "Add --weights s3"),
        (["--budget", "20"], "Add --email"),
        (["--most-instances", "0"], "1 or more"),
        (["--image", "nginx"], "is not the URI of an image in ECR"),
        (["--name", "Not-A-Name"], "cannot be a deployment's name"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_what_would(world, capsys, arguments, said):
    assert world.run(create_endpoint.main, "--image", IMAGE, "--yes", *arguments) == 1
    assert said in capsys.readouterr().err
    assert contents(world) == []


# --- Failures on the way ------------------------------------------------------------------------


def test_no_capacity_says_so_and_that_nothing_is_paid_for(world, capsys):
    world.fails_with = NO_CAPACITY
    assert create(world, "--json") == 1
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["error"]["type"] == "NoCapacity"
    assert "--instance-type" in report["error"]["advice"]
    (endpoint,) = [thing for thing in report["left"] if thing["kind"] == "endpoint"]
    assert not endpoint["costs"]


def test_a_failed_endpoint_is_replaced_by_the_next_attempt(world):
    world.fails_with = NO_CAPACITY
    assert create(world) == 1
    world.fails_with = None
    assert create(world) == 0


def test_a_container_that_does_not_start_shows_its_log(world, capsys):
    world.fails_with = UNHEALTHY
    world.log_lines = ["ImportError: libtorch_cuda.so: undefined symbol: ncclCommResume"]
    assert create(world) == 1
    said = capsys.readouterr().err
    assert "ncclCommResume" in said
    assert "did not pass the ping health check" in said
    assert "--image" in said


def test_a_healthy_ping_with_a_model_that_never_loads_is_found_out(world, capsys):
    died = {"OriginalStatusCode": 500, "OriginalMessage": "Worker died."}
    world.fail("InvokeEndpoint", "ModelError", extra=died)
    world.log_lines = ["Load model failed: sd, error: Worker died."]
    assert create(world, "--json") == 1
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["error"]["type"] == "NeverHealthy"
    assert "`stop` or `delete_endpoint`" in report["error"]["advice"]
    assert "Load model failed" in said.err
    (endpoint,) = [thing for thing in report["left"] if thing["kind"] == "endpoint"]
    assert endpoint["usd_per_hour"] > 0


def test_a_model_that_loads_slowly_is_waited_for(world):
    timeout = {"OriginalStatusCode": 504, "OriginalMessage": "Your invocation timed out"}
    world.fail("InvokeEndpoint", "ModelError", extra=timeout, times=5)
    assert create(world) == 0


def test_a_model_that_stays_silent_is_given_up_after_half_an_hour(world, capsys):
    world.fail("InvokeEndpoint", "ModelNotReadyException")
    assert create(world) == 1
    assert "serves no picture: After 30 min" in capsys.readouterr().err


def test_a_new_role_that_is_not_known_yet_is_waited_for(world):
    world.fail("CreateModel", "ValidationException", "Could not assume role arn:x", times=4)
    assert create(world) == 0


def test_a_role_that_stays_unusable_is_given_up(world, capsys):
    world.fail("CreateModel", "ValidationException", "Could not assume role arn:x")
    assert create(world) == 1
    said = capsys.readouterr().err
    assert "cannot use the endpoint's role: Could not assume role arn:x" in said
    assert "USD per hour" in said


def test_quota_that_the_table_did_not_tell_of_is_explained(world, capsys):
    world.fail("CreateEndpoint", "ResourceLimitExceeded", "The account-level service limit"
               " 'ml.g4dn.xlarge for endpoint usage' is 0 Instances")  # fmt: skip
    assert create(world) == 1
    said = capsys.readouterr().err
    assert "Raise the quota" in said
    assert "--instance-type" in said


def test_denied_access_names_the_call_and_what_is_there_already(world, capsys):
    denied = "User: arn:aws:iam::1:user/me is not authorized to perform: sagemaker:CreateModel"
    world.fail("CreateModel", "AccessDeniedException", denied)
    assert create(world) == 1
    said = capsys.readouterr().err
    assert "not authorized to perform: sagemaker:CreateModel" in said
    assert "Ask for this permission" in said
    assert "stack easel-main" in said


def test_credentials_that_expire_midway_leave_a_list_from_memory(world, capsys):
    for operation in ("CreateEndpoint", "ListEndpoints"):
        world.fail(operation, "ExpiredTokenException", "The security token has expired")
    assert create(world) == 1
    said = capsys.readouterr().err
    assert "aws sso login" in said
    assert "This run did, in this order:" in said
    assert "infrastructure: stack easel-main" in said
    world.faults.clear()
    assert create(world) == 0


def test_an_interruption_says_what_there_is_and_costs(world, capsys):
    def interrupt(_params):
        raise KeyboardInterrupt

    world._before_invoke_endpoint = interrupt
    assert create(world) == 130
    said = capsys.readouterr().err
    assert "The same command continues" in said
    assert "endpoint easel-main-sd, since" in said
    assert "USD per hour; `delete_endpoint` removes it" in said


def test_throttling_that_does_not_end_asks_for_patience(world, capsys):
    world.fail("CreateEndpointConfig", "ThrottlingException", "Rate exceeded")
    assert create(world) == 1
    assert "Wait a minute" in capsys.readouterr().err


def test_a_rolled_back_update_is_no_success(world, capsys, serving_code):
    assert create(world) == 0
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    world.update_rolls_back = True
    assert create(world) == 1
    said = capsys.readouterr().err
    assert "rolled the update of easel-main-sd back" in said
    assert len(world.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]) == 2


def test_a_stack_that_cannot_be_made_says_which_resource_failed(world, capsys):
    world.stack_fails_with = ("EndpointRole", "easel-main-endpoint-us-east-1 already exists")
    assert create(world) == 1
    said = capsys.readouterr().err
    assert "EndpointRole: easel-main-endpoint-us-east-1 already exists" in said
    assert "an earlier attempt" not in said


def test_a_stack_whose_making_was_rolled_back_is_made_anew(world):
    world.stack_fails_with = ("EndpointRole", "not now")
    assert create(world) == 1
    world.stack_fails_with = None
    assert create(world) == 0
    assert world.calls.count("cloudformation.CreateStack") == 2


def test_a_dry_run_prints_the_calls_and_changes_nothing(world, capsys):
    world.open_session()
    assert create(world, "--dry-run", model="sdxl") == 0
    said = capsys.readouterr().err
    for call in (
        "cloudformation.CreateStack",
        "s3.PutObject",
        "sagemaker.CreateModel",
        "sagemaker.CreateEndpoint ",
        "application-autoscaling.PutScalingPolicy",
    ):
        assert f"would call {call}" in said
    assert contents(world) == []


def test_json_goes_to_standard_output_and_nothing_else_does(world, capsys):
    assert create(world, "--json") == 0
    assert json.loads(capsys.readouterr().out)["endpoint"] == "easel-main-sd"
