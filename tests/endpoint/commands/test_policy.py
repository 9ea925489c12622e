"""The operator's policy, against the calls that the scripts really make."""

from __future__ import annotations

import copy
import json
import subprocess

import pytest

from endpoint import delete_endpoint, use_endpoint
from endpoint.commands import build_image, deploy, destroy, doctor, start, status, stop
from endpoint.core.naming import LONGEST_NAME, Deployment
from endpoint.provision import checks, rights
from endpoint.provision.gateway import gateway, gateway_project
from tests.endpoint.doubles import create, create_gateway, fetch_png, interrupted_build, only_config
from tests.endpoint.operator_calls import CHALICE, CLOUDFORMATION, DEPLOYMENT
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, aws_response, empty_account
from tests.model_folders import write_pipeline
from tests.policies import iam
from tests.policies.tools import find_program

USER = f"arn:aws:iam::{ACCOUNT}:user/me"


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """What IAM decides on while every script runs, and changes what it can change."""
    folder = tmp_path_factory.mktemp("calls")
    with pytest.MonkeyPatch.context() as patch, empty_account() as world:
        patch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
        patch.setattr(gateway_project, "PROJECTS", folder / ".easel")
        patch.setattr(gateway, "_run_chalice", lambda _context, _project: create_gateway(world))
        patch.setattr(rights, "simulate", lambda *_, **__: [])
        # moto in this process cannot tag an API.
        world._before_tag_resource = lambda _params: aws_response({})
        patch.chdir(folder)
        tiny = write_pipeline(folder / "tiny")
        budget = ("--budget", "5", "--email", "me@example.com", "--monthly-cap", "900")
        run = world.run
        assert run(doctor.main, "--image", IMAGE) == 0
        assert interrupted_build(world) == 130
        assert run(build_image.main, "--yes") == 0
        assert create(world, "--weights", "s3", *budget, model=str(tiny)) == 0
        config = only_config(world)["EndpointConfigName"]
        world.client("sagemaker").create_endpoint(
            EndpointName="somebodys", EndpointConfigName=config
        )
        options = ("--image", IMAGE, "--yes", "--model", "sdxl", "--weights", "fetch", "--open")
        assert run(deploy.main, *options, fetch=fetch_png) == 0
        assert create(world, "--log-prompts", model="sdxl") == 0
        assert run(use_endpoint.main, "a cat", "--model", "sdxl") == 0
        assert run(use_endpoint.main, "a cat", "--model", "tiny") == 0
        assert run(status.main) == 0
        assert run(stop.main, "--yes") == 0
        assert run(start.main, "--yes") == 0
        assert run(delete_endpoint.main, "--yes", "--model", "tiny") == 0
        assert run(destroy.main, "--yes") == 0
        made = [request for call in world.requests for request in iam.requests_of(*call)]
    return list(dict.fromkeys((r.action, r.resource, tuple(r.context.items())) for r in made))


def _requests(calls):
    recorded = [iam.Request(action, arn, dict(context)) for action, arn, context in calls]
    return [*recorded, *CHALICE, *CLOUDFORMATION]


def test_the_policy_allows_every_call_that_the_scripts_make(calls):
    assert len(calls) > 100
    assert iam.refused(rights.policy(DEPLOYMENT), _requests(calls)) == []


def test_no_statement_can_be_left_out(calls):
    policy = rights.policy(DEPLOYMENT)
    # The simulation is taken out above.
    reads = {"DoctorsSimulation", "SeeTheNetwork"}
    for statement in policy["Statement"]:
        rest = [other for other in policy["Statement"] if other is not statement]
        needed = iam.refused({"Statement": rest}, _requests(calls))
        assert needed or statement["Sid"] in reads, statement["Sid"]


@pytest.mark.parametrize("part", rights.PARTS)
def test_a_policy_is_printed_alone_and_fits_into_a_managed_one(world, capsys, part):
    name = "a" * LONGEST_NAME
    assert world.run(doctor.main, "--policy", part, "--name", name) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == rights.policy(Deployment(name, ACCOUNT, REGION), part)
    assert output.err == ""
    assert len("".join(output.out.split())) < 6_144


def test_the_parts_are_all_of_the_policy():
    parts = [
        statement
        for part in rights.PARTS[:3]
        for statement in rights.policy(DEPLOYMENT, part)["Statement"]
    ]
    assert parts == rights.policy(DEPLOYMENT)["Statement"]


@pytest.mark.parametrize(
    ("partition", "region"),
    [("aws", REGION), ("aws-us-gov", "us-gov-west-1"), ("aws-cn", "cn-north-1")],
)
def test_the_policy_is_of_the_deployments_partition(partition, region):
    deployment = Deployment("main", ACCOUNT, region, partition)
    for statement in rights.policy(deployment)["Statement"]:
        for arn in statement["Resource"]:
            assert arn == "*" or arn.startswith(f"arn:{partition}:")


def test_parliament_finds_nothing_in_the_policy():
    program = find_program("parliament")
    policy = json.dumps(rights.policy(DEPLOYMENT))
    done = subprocess.run([program], input=policy, capture_output=True, text=True, timeout=120)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.fixture
def operator(world, monkeypatch):
    """A world whose caller has exactly the policy of `doctor --policy`."""
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
    world.caller = USER
    world.operator_policy = copy.deepcopy(rights.policy(DEPLOYMENT))
    return world


def _rights(world, capsys, code=0):
    assert world.run(doctor.main, "--image", IMAGE, "--json") == code
    return [c for c in json.loads(capsys.readouterr().out)["checks"] if c["subject"] == "rights"]


def test_a_policy_for_the_deployments_own_resources_is_enough_for_the_doctor(operator, capsys):
    (check,) = _rights(operator, capsys)
    assert check["state"] == "good"


def test_a_right_that_may_be_missing_is_a_note_with_its_statement(operator, capsys):
    statements = operator.operator_policy["Statement"]
    passing = next(each for each in statements if each["Sid"] == "PassTheEndpointsRole")
    statements.remove(passing)
    (check,) = _rights(operator, capsys)
    assert check["state"] == "note"
    assert "iam:PassRole" in check["finding"]
    assert json.dumps(passing) in check["advice"]
    assert "doctor --policy" in check["advice"]


def test_a_denial_without_conditions_prevents_a_deployment(operator, capsys):
    deny = {"Effect": "Deny", "Action": "sagemaker:CreateEndpoint", "Resource": "*"}
    operator.operator_policy["Statement"].append(deny)
    (check,) = _rights(operator, capsys, code=1)
    assert check["state"] == "bad"
    assert "denies sagemaker:CreateEndpoint" in check["finding"]
