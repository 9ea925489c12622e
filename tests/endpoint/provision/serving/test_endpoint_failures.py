"""Failures while an endpoint is created: the message, and what the next attempt does."""

from __future__ import annotations

import json
import sys

import pytest

from endpoint import create_endpoint
from endpoint.emulator.sagemaker.provisioning import Capacity
from tests.endpoint.doubles import Terminal, create
from tests.endpoint.world import CREATE_SECONDS, DELETE_SECONDS, IMAGE

NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
    " Please retry using a different ML instance type or after some time."
)
UNHEALTHY = (
    "The primary container for production variant AllTraffic did not pass the ping health check."
    " Please check CloudWatch logs for this endpoint."
)


def test_no_capacity_is_reported_with_an_endpoint_that_costs_nothing(world, capsys):
    world.fails_with = NO_CAPACITY
    assert create(world, "--json") == 1
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert report["error"]["type"] == "NoCapacity"
    assert "--instance-type" in report["error"]["advice"]
    (endpoint,) = [resource for resource in report["left"] if resource["kind"] == "endpoint"]
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
    output = capsys.readouterr().err
    assert "ncclCommResume" in output
    assert "did not pass the ping health check" in output
    assert "--image" in output


DIED = {"OriginalStatusCode": 500, "OriginalMessage": "Worker died."}
BROKEN = "ImportError: libtorch_cuda.so: undefined symbol: ncclCommResume"


@pytest.mark.parametrize(
    "lines",
    [
        [BROKEN],
        ["Load model failed: sd, error: Worker died."],
        ["Worker died."],
        ["ModuleNotFoundError: No module named 'diffusers'"],
        ["Traceback (most recent call last):", BROKEN, "Worker died."],
    ],
)
@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_a_container_that_serves_but_cannot_load_is_deleted_within_a_minute(
    world, capsys, lines, model
):
    world.fail("InvokeEndpoint", "ModelError", extra=DIED)
    world.never_answers = True
    world.log_lines = lines if model == "sd" else 3 * lines
    assert create(world, "--json", model=model) == 1
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert report["error"]["type"] == "NeverHealthy"
    assert "cannot load the model" in report["error"]["message"]
    assert "is deleted and costs nothing more" in report["error"]["advice"]
    assert "--image" in report["error"]["advice"]
    assert lines[-1] in output.err
    assert not [item for item in report["left"] if item["kind"] in {"endpoint", "scaling of"}]
    assert world.seconds < CREATE_SECONDS + DELETE_SECONDS + 60


def test_a_container_that_cannot_load_is_kept_if_the_operator_says_so(world, capsys, monkeypatch):
    world.fail("InvokeEndpoint", "ModelError", extra=DIED)
    world.log_lines = [BROKEN]
    answers = iter(["y\n", "n\n"])
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys.stdin, "readline", lambda: next(answers))
    assert world.run(create_endpoint.main, "--image", IMAGE, "--json") == 1
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert "cannot serve, and costs at most 1.408 USD per hour" in output.err
    assert "`python -m endpoint stop` or `python -m endpoint delete`" in report["error"]["advice"]
    (endpoint,) = [resource for resource in report["left"] if resource["kind"] == "endpoint"]
    assert endpoint["usd_per_hour"] > 0


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        "ImportError: xformers is not installed",
        "Worker died.",
        "torch.OutOfMemoryError: CUDA out of memory",
    ],
)
def test_one_line_in_the_log_is_no_reason_to_give_up(world, line):
    timeout = {"OriginalStatusCode": 504, "OriginalMessage": "Your invocation timed out"}
    world.fail("InvokeEndpoint", "ModelError", extra=timeout, times=20)
    world.log_lines = [line]
    assert create(world) == 0


def test_the_lines_of_a_previous_version_do_not_count(world, serving_code):
    assert create(world) == 0
    seen, begun = [], world.now().timestamp()
    world._before_filter_log_events = lambda params: seen.append(params["startTime"])
    world.fail("InvokeEndpoint", "ModelNotReadyException", times=1)
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    assert create(world) == 0
    # After the update.
    assert seen[0] / 1000 >= begun + CREATE_SECONDS


def test_a_model_that_loads_slowly_is_waited_for(world):
    timeout = {"OriginalStatusCode": 504, "OriginalMessage": "Your invocation timed out"}
    world.fail("InvokeEndpoint", "ModelError", extra=timeout, times=5)
    assert create(world) == 0


def test_a_model_without_a_response_fails_after_half_an_hour(world, capsys):
    world.fail("InvokeEndpoint", "ModelNotReadyException")
    assert create(world) == 1
    assert "returns no picture: After 30 min" in capsys.readouterr().err


def test_a_new_role_is_waited_for(world):
    world.fail("CreateModel", "ValidationException", "Could not assume role arn:x", times=4)
    assert create(world) == 0


def test_a_role_that_stays_unusable_is_a_failure(world, capsys):
    world.fail("CreateModel", "ValidationException", "Could not assume role arn:x")
    assert create(world) == 1
    output = capsys.readouterr().err
    assert "cannot use the endpoint's role: Could not assume role arn:x" in output
    assert "USD per hour" in output


# As many as 15 minutes each leave time for within the hour that SageMaker allows at most.
TYPES = ("ml.g4dn.xlarge", "ml.g6.xlarge", "ml.g5.xlarge", "ml.g6e.xlarge")


@pytest.mark.parametrize("available", range(len(TYPES)))
def test_a_type_with_capacity_is_reached_whatever_the_types_before_it_take(world, available):
    world.endpoints.capacity = Capacity(TYPES[:available], seconds_each=900)
    types = [word for name in TYPES for word in ("--instance-type", name)]

    assert create(world, *types) == 0
    assert world.seconds >= available * 900
    description = world.client("sagemaker").describe_endpoint(EndpointName="easel-main-sd")
    pools = description["ProductionVariants"][0]["InstancePools"]
    assert [pool["InstanceType"] for pool in pools if pool["CurrentInstanceCount"]] == [
        TYPES[available]
    ]


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_pools_without_any_capacity_are_waited_for_until_sagemaker_gives_up(world, capsys, model):
    world.endpoints.capacity = Capacity(TYPES, seconds_each=900)
    assert create(world, "--json", model=model) == 1

    report = json.loads(capsys.readouterr().out)
    assert report["error"]["type"] == "NoCapacity"
    assert world.seconds >= 3 * 900
    endpoints = [each for each in report["left"] if each["kind"] == "endpoint"]
    assert [each["usd_per_hour"] for each in endpoints] == [0]


def test_an_exceeded_quota_is_explained_even_if_the_table_allowed_it(world, capsys):
    world.fail("CreateEndpoint", "ResourceLimitExceeded", "The account-level service limit"
               " 'ml.g4dn.xlarge for endpoint usage' is 0 Instances")  # fmt: skip
    assert create(world) == 1
    output = capsys.readouterr().err
    assert "Raise the quota" in output
    assert "--instance-type" in output


def test_denied_access_names_the_call_and_the_existing_resources(world, capsys):
    denied = "User: arn:aws:iam::1:user/me is not authorized to perform: sagemaker:CreateModel"
    world.fail("CreateModel", "AccessDeniedException", denied)
    assert create(world) == 1
    output = capsys.readouterr().err
    assert "not authorized to perform: sagemaker:CreateModel" in output
    assert "Ask for this permission" in output
    assert "stack easel-main" in output


def test_credentials_that_expire_midway_leave_a_list_from_memory(world, capsys):
    expired = ("ExpiredTokenException", "The security token has expired")
    world.fail("CreateEndpoint", *expired)
    world._before_create_endpoint_config = lambda _: world.fail("ListEndpoints", *expired)
    assert create(world) == 1
    output = capsys.readouterr().err
    assert "aws sso login" in output
    assert "This run began these steps:" in output
    assert "infrastructure: stack easel-main" in output
    world.faults.clear()
    assert create(world) == 0


def test_an_interruption_lists_the_resources_and_their_cost(world, capsys):
    def interrupt(_params):
        raise KeyboardInterrupt

    world._before_invoke_endpoint = interrupt
    assert create(world) == 130
    output = capsys.readouterr().err
    assert "The same command continues" in output
    assert "endpoint easel-main-sd, since" in output
    assert "USD per hour; `python -m endpoint delete` removes them" in output


def test_throttling_that_does_not_end_advises_to_wait(world, capsys):
    world.fail("CreateEndpointConfig", "ThrottlingException", "Rate exceeded")
    assert create(world) == 1
    assert "Wait a minute" in capsys.readouterr().err


def test_a_rolled_back_update_is_no_success(world, capsys, serving_code):
    assert create(world) == 0
    (serving_code / "generation.py").write_text("STEPS = 1\n")
    world.update_rolls_back = True
    assert create(world) == 1
    output = capsys.readouterr().err
    assert "rolled the update of easel-main-sd back" in output
    assert len(world.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]) == 2


def test_a_failed_stack_names_the_resource_that_failed(world, capsys):
    world.stack_fails_with = ("EndpointRole", "easel-main-endpoint-us-east-1 already exists")
    assert create(world) == 1
    output = capsys.readouterr().err
    assert "EndpointRole: easel-main-endpoint-us-east-1 already exists" in output
    assert "an earlier attempt" not in output


def test_a_stack_whose_creation_was_rolled_back_is_created_again(world):
    world.stack_fails_with = ("EndpointRole", "not now")
    assert create(world) == 1
    world.stack_fails_with = None
    assert create(world) == 0
    assert world.calls.count("cloudformation.CreateStack") == 2
