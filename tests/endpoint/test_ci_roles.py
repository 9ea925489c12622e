"""The roles of GitHub Actions: who can assume them, and that each can do its work and no more."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint import create_endpoint
from endpoint.commands import apply, deploy, plan
from endpoint.provision import checks, rights
from endpoint.provision.gateway import gateway, gateway_project
from tests.contract.deployment import Loader
from tests.endpoint.doubles import create_gateway, fetch_png
from tests.endpoint.operator_calls import CHALICE, CLOUDFORMATION
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, aws_response, empty_account
from tests.policies import ci_roles, iam
from tests.policies.tools import find_program

TEXT = ci_roles.TEMPLATE.read_text("utf-8")
TEMPLATE: dict[str, Any] = yaml.load(TEXT, Loader)  # noqa: S506 - a safe loader
ENVIRONMENTS = {"Push": "image", "Plan": "plan", "Apply": "production", "Deploy": "deploy"}
ISSUER = "token.actions.githubusercontent.com"
STACK_ROLE = f"arn:aws:iam::{ACCOUNT}:role/stack"
WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"


def _substituted(node: Any) -> Any:
    """Return a part of the template with its functions' values."""
    if isinstance(node, list):
        return [_substituted(item) for item in node]
    if not isinstance(node, dict):
        return node
    if list(node) == ["!Sub"]:
        values = {"DeploymentName": "main", "AWS::AccountId": ACCOUNT, "AWS::Region": REGION}
        values |= {"AWS::Partition": "aws", "GitHubOwner": "me", "GitHubRepository": "easel"}
        text: str = node["!Sub"]
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", value)
        assert "${" not in text
        return text
    if list(node) == ["!GetAtt"]:
        return {"StackRole.Arn": STACK_ROLE}[node["!GetAtt"]]
    return {key: _substituted(value) for key, value in node.items()}


def _properties(role):
    found: dict[str, Any] = TEMPLATE["Resources"][f"{role}Role"]["Properties"]
    return found


def _policy(role):
    (own,) = _properties(role)["Policies"]
    statements = [*own["PolicyDocument"]["Statement"]]
    if "ManagedPolicyArns" in _properties(role):
        read = TEMPLATE["Resources"]["ReadPolicy"]["Properties"]["PolicyDocument"]
        statements += read["Statement"]
    return {"Version": "2012-10-17", "Statement": _substituted(statements)}


def _actions(policy):
    return {action for each in policy["Statement"] for action in iam._list(each["Action"])}


def test_the_operators_rights_in_it_are_those_of_the_scripts():
    assert ci_roles.filled(TEXT) == TEXT, "run `python -m tests.policies.ci_roles`"


@pytest.mark.parametrize("role", ENVIRONMENTS)
def test_a_role_is_for_one_environment_of_one_repository_in_both_forms_of_its_subject(role):
    (statement,) = _properties(role)["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"]["StringEquals"] == {
        f"{ISSUER}:aud": "sts.amazonaws.com",
        f"{ISSUER}:repository_id": {"!Ref": "GitHubRepositoryId"},
        f"{ISSUER}:environment": ENVIRONMENTS[role],
    }
    assert _substituted(statement["Condition"]["StringLike"]) == {
        f"{ISSUER}:sub": [
            f"repo:me/easel:environment:{ENVIRONMENTS[role]}",
            f"repo:me@*/easel@*:environment:{ENVIRONMENTS[role]}",
        ]
    }


def test_each_environment_of_the_workflows_has_its_role():
    used = {}
    for path in WORKFLOWS.glob("*.yml"):
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
            for step in job.get("steps", []):
                if "role-to-assume" in step.get("with", {}):
                    used[job["environment"]] = step["with"]["role-to-assume"]
    assert used == {
        environment: f"${{{{ vars.EASEL_{role.upper()}_ROLE }}}}"
        for role, environment in ENVIRONMENTS.items()
    }
    assert set(TEMPLATE["Outputs"]) == {*ENVIRONMENTS, "Stack"}


def test_cloudformation_alone_assumes_the_stacks_role():
    (statement,) = _properties("Stack")["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "cloudformation.amazonaws.com"}


@pytest.mark.parametrize("role", [*ENVIRONMENTS, "Stack"])
def test_no_policy_allows_everything_of_a_service_and_all_fit_into_a_role(role):
    policy = _policy(role)
    assert not any(action.endswith("*") for action in _actions(policy))
    # A role's inline policies have 10,240 characters in all.
    assert len(json.dumps(policy, separators=(",", ":"))) < 10_240


def test_no_environment_can_change_the_stack_but_by_applying_a_plan():
    changing = {
        "cloudformation:ContinueUpdateRollback",
        "cloudformation:CreateStack",
        "cloudformation:DeleteStack",
        "cloudformation:ExecuteChangeSet",
        "cloudformation:UpdateStack",
    }
    for role in ENVIRONMENTS:
        allowed = {"cloudformation:ExecuteChangeSet"} if role == "Apply" else set()
        assert _actions(_policy(role)) & changing == allowed
        # Nor what is in the stack: roles, the bucket and the network.
        assert not [a for a in _actions(_policy(role)) if a.startswith(("iam:Put", "iam:Create"))
                    and a != "iam:CreateServiceLinkedRole"]  # fmt: skip
        assert not [a for a in _actions(_policy(role)) if a.startswith(("s3:PutBucket", "ec2:Cre"))]


def test_the_stacks_role_makes_everything_in_the_template():
    # A service-linked role is made by the first scalable target, which is `deploy`'s.
    needed = [each for each in CLOUDFORMATION if each.action != "iam:CreateServiceLinkedRole"]
    assert iam.refused(_policy("Stack"), needed) == []


def test_a_plan_can_only_be_made_with_the_stacks_role():
    stack = iam.ARN.format("cloudformation", "stack/easel-main/x")
    context = {"cloudformation:ChangeSetName": "easel-a"}
    call = iam.Request("cloudformation:CreateChangeSet", stack, context)
    assert not iam.allows(_policy("Plan"), call)
    bound = {**context, "cloudformation:RoleArn": STACK_ROLE}
    assert iam.allows(_policy("Plan"), iam.Request(call.action, stack, bound))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """What IAM decides on while the workflows' commands run, by role."""
    folder = tmp_path_factory.mktemp("calls")
    calls = {}
    with pytest.MonkeyPatch.context() as patch, empty_account() as world:
        patch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
        patch.setattr(gateway_project, "PROJECTS", folder / ".easel")
        patch.setattr(gateway, "_run_chalice", lambda _context, _project: create_gateway(world))
        patch.setattr(rights, "simulate", lambda *_, **__: [])
        # moto in this process cannot tag an API.
        world._before_tag_resource = lambda _params: aws_response({})

        def run(role, main, *options, **more):
            before = len(world.requests)
            common = ("--image", IMAGE, "--model", "sdxl", "--weights", "fetch")
            assert world.run(main, *common, *options, **more) == 0
            made = [iam.requests_of(*call) for call in world.requests[before:]]
            calls.setdefault(role, []).extend(each for requests in made for each in requests)

        role = ("--stack-role", STACK_ROLE)
        run("Plan", plan.main, *role)
        run("Plan", plan.main, *role, "--private-network", "--weights", "s3")
        run("Plan", plan.main, *role)
        (made,) = world.client("cloudformation").list_change_sets(StackName="easel-main")[
            "Summaries"
        ]
        run("Apply", apply.main, "--yes", "--change-set", made["ChangeSetId"])
        run("Deploy", deploy.main, "--yes", "--open", fetch=fetch_png)
        # A second version: of `deploy`, only chalice's part would differ.
        run("Deploy", create_endpoint.main, "--yes", "--log-prompts")
        run("Plan", plan.main, *role, "--budget", "5", "--email", "me@example.com")
        run("Plan", plan.main, "--discard")
    return calls


@pytest.mark.parametrize("role", ["Plan", "Apply", "Deploy"])
def test_a_role_is_allowed_every_call_of_its_commands(recorded, role):
    calls = recorded[role] + (CHALICE if role == "Deploy" else [])
    assert len(recorded[role]) > 5
    assert iam.refused(_policy(role), calls) == []


@pytest.mark.parametrize("role", ["Plan", "Apply"])
def test_no_statement_can_be_left_out(recorded, role):
    statements = _policy(role)["Statement"]
    for statement in statements:
        rest = [other for other in statements if other is not statement]
        assert iam.refused({"Statement": rest}, recorded[role]), statement["Sid"]


def test_the_push_role_writes_to_one_repository():
    statements = _policy("Push")["Statement"]
    assert [each["Resource"] for each in statements] == [
        "*",
        f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/easel-main",
    ]
    assert statements[0]["Action"] == ["ecr:GetAuthorizationToken"]


@pytest.mark.parametrize("provider", ["", f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"])
def test_the_template_makes_a_stack_with_its_own_provider_or_with_the_accounts(world, provider):
    client = world.client("cloudformation")
    given = {"GitHubOwner": "me", "GitHubRepository": "easel", "GitHubRepositoryId": "1"}
    client.create_stack(
        StackName="ci-easel-main",
        TemplateBody=TEXT,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {**given, "ProviderArn": provider}.items()
        ],
    )
    (stack,) = client.describe_stacks()["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert {item["OutputKey"] for item in stack["Outputs"]} == {*ENVIRONMENTS, "Stack"}


@pytest.mark.parametrize("role", [*ENVIRONMENTS, "Stack"])
def test_parliament_finds_nothing_in_a_policy(role):
    done = subprocess.run(
        [find_program("parliament")],
        input=json.dumps(_policy(role)),
        capture_output=True,
        text=True,
    )
    # Who makes a bucket with a policy can give it another one.
    lines = [line for line in done.stdout.splitlines() if "s3:PutBucketPolicy" not in line]
    assert (lines, done.stderr) == ([], "")
