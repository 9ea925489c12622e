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
from tests import iam
from tests.endpoint.doubles import PNG, create, create_gateway, interrupted_build, only_config
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, _answer, empty_account
from tests.model_folders import write_pipeline
from tests.policy_tools import find_program

DEPLOYMENT = Deployment("main", ACCOUNT, REGION)
USER = f"arn:aws:iam::{ACCOUNT}:user/me"
# chalice is a process of its own; these are its calls (chalice/deploy/executor.py), and those of
# CloudFormation, which uses the operator's rights, for each kind of resource in the template.
CHALICE = [
    iam.Request(f"lambda:{action}", DEPLOYMENT.function_arn)
    for action in (
        "AddPermission", "CreateFunction", "DeleteFunctionConcurrency", "GetFunction",
        "GetFunctionConfiguration", "GetPolicy", "ListTags", "PutFunctionConcurrency",
        "RemovePermission", "TagResource", "UntagResource", "UpdateFunctionCode",
        "UpdateFunctionConfiguration",
    )
] + [
    iam.Request("iam:PassRole", DEPLOYMENT.gateway_role,
                {"iam:PassedToService": "lambda.amazonaws.com"}),
    *(
        iam.Request(f"apigateway:{verb}", f"arn:aws:apigateway:{REGION}::/restapis{rest}")
        for verb, rest in (("GET", ""), ("POST", ""), ("GET", "/x"), ("PUT", "/x"),
                           ("PATCH", "/x"), ("DELETE", "/x"), ("POST", "/x/deployments"))
    ),
]  # fmt: skip
CLOUDFORMATION = [
    *(
        iam.Request(f"s3:{action}", f"arn:aws:s3:::{bucket}")
        for bucket in (DEPLOYMENT.bucket, DEPLOYMENT.source_bucket)
        for action in ("CreateBucket", "DeleteBucket", "PutBucketPolicy", "PutBucketTagging",
                       "PutEncryptionConfiguration", "PutLifecycleConfiguration",
                       "PutBucketPublicAccessBlock", "PutBucketOwnershipControls",
                       "PutBucketVersioning", "PutBucketNotification", "DeleteBucketPolicy")
    ),
    *(
        iam.Request(f"iam:{action}", role)
        for role in (DEPLOYMENT.endpoint_role, DEPLOYMENT.gateway_role, DEPLOYMENT.build_role,
                     DEPLOYMENT.build_rule_role, DEPLOYMENT.lease_role, DEPLOYMENT.guard_role)
        for action in ("CreateRole", "DeleteRole", "GetRole", "PutRolePolicy", "DeleteRolePolicy",
                       "GetRolePolicy", "TagRole", "UntagRole", "UpdateAssumeRolePolicy")
    ),
    *(
        iam.Request(f"logs:{action}", iam.ARN.format("logs", f"log-group:{group}"))
        for group in ("/aws/lambda/easel-main", "/aws/lambda/easel-main-guard",
                      DEPLOYMENT.build_log)
        for action in ("CreateLogGroup", "DeleteLogGroup", "PutRetentionPolicy", "TagResource")
    ),
    *(
        iam.Request("iam:PassRole", role, {"iam:PassedToService": f"{service}.amazonaws.com"})
        for role, service in ((DEPLOYMENT.build_role, "codebuild"),
                              (DEPLOYMENT.build_rule_role, "events"),
                              (DEPLOYMENT.guard_role, "lambda"),
                              (DEPLOYMENT.lease_role, "scheduler"))
    ),
    # Of CloudFormation's schemas, by what the template uses of each resource.
    *(
        iam.Request(f"lambda:{action}", iam.ARN.format("lambda", "function:easel-main-guard"))
        for action in ("CreateFunction", "GetFunction", "TagResource", "UntagResource",
                       "UpdateFunctionCode", "UpdateFunctionConfiguration", "DeleteFunction")
    ),
    *(
        iam.Request(f"scheduler:{action}Group",
                    iam.ARN.format("scheduler", "schedule-group/easel-main"))
        for action in ("CreateSchedule", "GetSchedule", "DeleteSchedule")
    ),
    *(
        iam.Request(f"scheduler:{action}",
                    iam.ARN.format("scheduler", "schedule-group/easel-main"))
        for action in ("TagResource", "ListTagsForResource", "UntagResource")
    ),
    *(
        iam.Request(f"scheduler:{action}",
                    iam.ARN.format("scheduler", "schedule/easel-main/guard"))
        for action in ("CreateSchedule", "GetSchedule", "UpdateSchedule", "DeleteSchedule")
    ),
    *(
        iam.Request(f"sns:{action}", DEPLOYMENT.spend_topic)
        for action in ("CreateTopic", "TagResource", "UntagResource", "Subscribe",
                       "GetTopicAttributes", "SetTopicAttributes", "ListTagsForResource",
                       "ListSubscriptionsByTopic", "DeleteTopic")
    ),
    iam.Request("sns:Unsubscribe"),
    *(
        iam.Request(f"ecr:{action}", iam.ARN.format("ecr", "repository/easel-main"))
        for action in ("CreateRepository", "DeleteRepository", "DescribeRepositories",
                       "GetLifecyclePolicy", "GetRepositoryPolicy", "ListTagsForResource",
                       "PutImageScanningConfiguration", "PutImageTagMutability",
                       "PutLifecyclePolicy", "TagResource", "UntagResource")
    ),
    *(
        iam.Request(f"codebuild:{action}", iam.ARN.format("codebuild", "project/easel-main-image"))
        for action in ("BatchGetProjects", "CreateProject", "DeleteProject", "UpdateProject")
    ),
    *(
        iam.Request(f"events:{action}", iam.ARN.format("events", "rule/easel-main-image"))
        for action in ("DeleteRule", "DescribeRule", "ListTagsForResource", "ListTargetsByRule",
                       "PutRule", "PutTargets", "RemoveTargets", "TagResource", "UntagResource")
    ),
    *(
        iam.Request(f"budgets:{action}", f"arn:aws:budgets::{ACCOUNT}:budget/easel-main-{REGION}")
        for action in ("ModifyBudget", "ViewBudget")
    ),
    *(
        iam.Request(f"cloudwatch:{action}",
                    f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/easel-main-{REGION}")
        for action in ("PutDashboard", "GetDashboard", "DeleteDashboards")
    ),
    *(
        iam.Request(f"ec2:{action}", iam.ARN.format("ec2", f"{kind}/x"))
        for kind, actions in {
            "vpc": ("CreateVpc", "DeleteVpc", "ModifyVpcAttribute", "CreateTags"),
            "subnet": ("CreateSubnet", "DeleteSubnet"),
            "route-table": ("CreateRouteTable", "DeleteRouteTable", "AssociateRouteTable",
                            "DisassociateRouteTable"),
            "vpc-endpoint": ("CreateVpcEndpoint", "ModifyVpcEndpoint", "DeleteVpcEndpoints"),
            "security-group": ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress",
                               "CreateSecurityGroup", "DeleteSecurityGroup",
                               "AuthorizeSecurityGroupEgress", "RevokeSecurityGroupEgress"),
        }.items()
        for action in actions
    ),
    iam.Request("route53:AssociateVPCWithHostedZone", "arn:aws:route53:::hostedzone/x"),
    iam.Request("iam:CreateServiceLinkedRole",
                f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/"
                "sagemaker.application-autoscaling.amazonaws.com/AWSServiceRoleFor",
                {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}),
]  # fmt: skip


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
        world._before_tag_resource = lambda _params: _answer({})
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
        assert run(deploy.main, *options, fetch=_png) == 0
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


def _png(_url, **_key):
    return PNG


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
