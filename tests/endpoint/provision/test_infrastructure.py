"""The template through cfn-lint, and its policies statement by statement.

checkov and parliament are installed in another environment: see tests/policies/tools.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs
from cfnlint.decode import cfn_yaml
from cfnlint.helpers import REGIONS
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from endpoint.commands import status
from endpoint.core.usage_days import MOST_DAYS
from endpoint.emulator.moto_.stacks.cloudformation import CREATE_ONLY
from endpoint.provision import infrastructure
from endpoint.provision.infrastructure import (
    BUDGET_REGIONS,
    REGIONS_WITHOUT_BUILDS,
    TEMPLATE,
    template,
)
from tests.conftest import ALL
from tests.endpoint.doubles import BUCKET, create, put_image
from tests.endpoint.world import ACCOUNT, REGION, aws_response, contents, role_policy
from tests.model_folders import write_pipeline
from tests.policies.tools import find_program

ROLES = [
    f"easel-main-endpoint-{REGION}",
    f"easel-main-gateway-{REGION}",
    f"easel-main-build-{REGION}",
    f"easel-main-build-rule-{REGION}",
    f"easel-main-lease-{REGION}",
    f"easel-main-guard-{REGION}",
]
# Actions that support no resource ARNs; each has a condition or only reads.
WITHOUT_RESOURCE = {
    "cloudwatch:PutMetricData",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecr:GetAuthorizationToken",
    "sagemaker:ListEndpoints",
    "sagemaker:ListTrainingJobs",
}


def _run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **more)


@pytest.fixture
def policies(world, tmp_path):
    """The roles' policies as CloudFormation makes them, with all that options add."""
    _create_privately(world, tmp_path)
    iam = world.client("iam")
    return {role: role_policy(iam, role, _policy_name(role)) for role in ROLES}


def _policy_name(role):
    return role.removesuffix(f"-{REGION}").rpartition("-")[2]


def test_cfn_lint_finds_nothing():
    names = ("infrastructure.yaml", "ci-roles.yaml", "training.yaml", "cdn.yaml")
    paths = [str(TEMPLATE.with_name(name)) for name in names]
    done = _run([str(Path(sys.executable).with_name("cfn-lint")), *paths])
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("regions", "least"),
    [
        (BUDGET_REGIONS, 10),
        (None, 10),
        (REGIONS_WITHOUT_BUILDS, 3),
    ],
    ids=["with budgets", "without", "without CodeBuild"],
)
def test_the_template_is_valid_in_every_region_that_has_sagemaker(regions, least):
    others = set(_regions()) - BUDGET_REGIONS - REGIONS_WITHOUT_BUILDS
    regions = sorted(set(_regions()) & regions if regions else others)
    assert len(regions) >= least
    if not ALL:
        regions = regions[::7]
    # Where there is no budget, its parameters are left over: a warning.
    config = ManualArgs(regions=regions, ignore_checks=["W"])
    assert lint(template(regions[0]), config=config) == []


def test_the_regions_with_budgets_are_cloudformations():
    offers = PROVIDER_SCHEMA_MANAGER.get_resource_types
    assert {r for r in _regions() if "AWS::Budgets::Budget" in offers(r)} == BUDGET_REGIONS


def test_the_regions_without_builds_are_cloudformations():
    offers = PROVIDER_SCHEMA_MANAGER.get_resource_types
    without = {r for r in _regions() if "AWS::CodeBuild::Project" not in offers(r)}
    assert without == REGIONS_WITHOUT_BUILDS


def _regions():
    """Return the public regions that have SageMaker and CloudFormation."""
    session = boto3.Session()
    return [
        region
        for partition in ("aws", "aws-cn", "aws-us-gov")
        for region in session.get_available_regions("sagemaker", partition)
        if region in REGIONS
    ]


def test_a_budget_is_refused_where_there_is_none(world, capsys, monkeypatch):
    monkeypatch.setattr(infrastructure, "BUDGET_REGIONS", frozenset())
    assert create(world, "--budget", "20", "--email", "a@b.example") == 2
    assert f"CloudFormation offers no budgets in {REGION}" in capsys.readouterr().err
    assert contents(world) == []
    assert create(world) == 0


# --- Changes -----------------------------------------------------------------------------------


def _resources():
    text: dict[str, Any] = cfn_yaml.load(str(TEMPLATE))["Resources"]
    return text


def test_a_resource_with_a_name_of_its_own_has_another_where_cloudformation_replaces_it():
    named = {}
    for resource in _resources().values():
        kind, properties = resource["Type"], resource["Properties"]
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
        fixed = [path.split("/")[2:] for path in schema.get("createOnlyProperties", [])]
        name = next((path for path in fixed if path[-1].endswith("Name")), None)
        if name is None or kind not in CREATE_ONLY:
            # A property by which a template chooses a name ends in Name.
            assert not [key for key in properties if key.endswith("Name") and key != "ServiceName"]
            continue
        others = tuple("/".join(path) for path in fixed if path != name)
        named[kind] = ("/".join(name), others)
        used = [path for path in others if path in properties]
        # Its name must contain what stands for the others, see `budget_version`.
        assert not used or "${BudgetVersion}" in json.dumps(properties["Budget"]["BudgetName"])
        assert used in ([], ["NotificationsWithSubscribers"])
    assert named == CREATE_ONLY


def test_another_address_or_threshold_makes_another_budget(monkeypatch, tmp_path):
    before = infrastructure.budget_version("a@b.example")
    assert infrastructure.budget_version("c@d.example") != before
    changed = tmp_path / "infrastructure.yaml"
    changed.write_text(TEMPLATE.read_text("utf-8").replace("Threshold: 90", "Threshold: 91"))
    monkeypatch.setattr(infrastructure, "TEMPLATE", changed)
    assert infrastructure.budget_version("a@b.example") != before


def test_the_address_of_the_budget_can_be_changed_and_nothing_is_rolled_back(world):
    budget = ("--budget", "5", "--email")
    for address in ("a@b.example", "c@d.example"):
        assert create(world, *budget, address) == 0
    assert create(world, "--budget", "7", "--email", "c@d.example") == 0
    (stack,) = world.client("cloudformation").describe_stacks()["Stacks"]
    assert stack["StackStatus"] == "UPDATE_COMPLETE"


def test_an_update_that_would_replace_under_the_same_name_is_rolled_back(
    world, capsys, monkeypatch
):
    monkeypatch.setattr(infrastructure, "budget_version", lambda _: "a")
    assert create(world, "--budget", "5", "--email", "a@b.example") == 0
    assert create(world, "--budget", "5", "--email", "c@d.example") == 1
    assert "when a custom-named resource requires replacing" in capsys.readouterr().err


def test_a_stack_that_was_rolled_back_is_healthy_if_there_is_nothing_to_update(world, capsys):
    assert create(world) == 0
    world.stack_fails_with = ("Network", "The maximum number of VPCs has been reached.")
    assert create(world, "--budget", "5", "--email", "a@b.example") == 1
    assert "Network: The maximum number of VPCs" in capsys.readouterr().err
    world.stack_fails_with = None
    assert create(world) == 0
    assert world.stack_status == "UPDATE_ROLLBACK_COMPLETE"
    assert create(world, "--budget", "5", "--email", "a@b.example") == 0


def test_a_rollback_that_failed_is_continued_and_then_the_stack_is_updated(world, capsys):
    assert create(world) == 0
    world.stack_status = "UPDATE_ROLLBACK_FAILED"
    world.stack_fails_with = ("Bucket", "Access Denied")
    assert create(world, "--budget", "5", "--email", "a@b.example") == 1
    assert "Bucket: Access Denied" in capsys.readouterr().err
    world.stack_fails_with = None
    assert create(world, "--budget", "5", "--email", "a@b.example") == 0
    assert world.calls.count("cloudformation.ContinueUpdateRollback") == 2


# --- What is in it -----------------------------------------------------------------------------


def test_the_template_is_small_enough_to_be_sent_in_the_call():
    assert len(template(REGION).encode()) < 51_200


def test_no_policy_allows_everything(policies):
    for role, policy in policies.items():
        for statement in policy["Statement"]:
            assert not any(action.endswith("*") for action in statement["Action"]), role
            if statement["Resource"] == "*":
                assert set(statement["Action"]) <= WITHOUT_RESOURCE, role


def test_no_role_has_a_policy_of_amazons_own(world, policies):
    for role in policies:
        attached = world.client("iam").list_attached_role_policies(RoleName=role)
        assert attached["AttachedPolicies"] == []


def test_every_resource_is_this_deployments_or_the_images_repository(policies):
    for policy in policies.values():
        for statement in policy["Statement"]:
            resources = statement["Resource"]
            for resource in [resources] if isinstance(resources, str) else resources:
                assert _is_own(resource), resource


def _is_own(resource):
    """Whether a resource is the deployment's, in its network, or the image's repository."""
    if resource == "*":
        return True  # see the test before
    named = (
        "easel-main-",
        ":repository/easel-main",
        ":repository/huggingface-pytorch-inference",
        "/aws/lambda/easel-main:",
    )
    network = (":subnet/subnet-", ":security-group/sg-", f"{ACCOUNT}:network-interface/")
    return any(part in resource for part in named + network)


def test_the_gateways_role_can_use_endpoints_renew_leases_and_store_jobs_and_nothing_more(
    policies,
):
    actions = {
        action for statement in policies[ROLES[1]]["Statement"] for action in statement["Action"]
    }
    assert actions == {
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointAsync",
        "sagemaker:DescribeEndpoint",
        "scheduler:GetSchedule",
        "scheduler:UpdateSchedule",
        "iam:PassRole",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:ListBucket",
        "s3:ListMultipartUploadParts",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }


def test_only_with_wake_can_the_gateway_create_endpoints_and_only_pass_the_leases_role(world):
    assert create(world, "--wake") == 0
    client = world.client("iam")
    statements = {
        statement["Sid"]: statement
        for statement in role_policy(client, ROLES[1], "gateway")["Statement"]
    }
    assert statements["WakeTheEndpoints"]["Action"] == [
        "sagemaker:AddTags", "sagemaker:CreateEndpoint"
    ]  # fmt: skip
    assert statements["PassTheLeasesRole"]["Resource"].endswith(f":role/{ROLES[4]}")
    # moto does not look at conditions again when it updates.
    assert create(world, "--name", "second") == 0
    other = ROLES[1].replace("main", "second")
    sids = [each["Sid"] for each in role_policy(client, other, "gateway")["Statement"]]
    assert "WakeTheEndpoints" not in sids


def test_the_image_count_of_a_link_outlives_the_link(policies):
    (statement,) = (
        statement
        for statement in policies[ROLES[1]]["Statement"]
        if statement["Sid"] == "CountThePicturesOfLinks"
    )
    assert statement["Resource"].endswith("/links/*")
    # A link is valid for 30 days at most; a count that expires before would start again at zero.
    rules = TEMPLATE.read_text("utf-8").partition("Prefix: links/")[2]
    assert rules.strip().startswith("ExpirationInDays: 40")


def test_what_is_used_is_kept_for_longer_than_the_longest_report():
    rules = TEMPLATE.read_text("utf-8").partition("Prefix: usage/")[2].split()

    assert rules[0] == "ExpirationInDays:"
    assert int(rules[1]) > MOST_DAYS


def test_the_bucket_is_encrypted_private_and_tidies_itself(world, policies):
    encryption = world.client("s3").get_bucket_encryption(Bucket=BUCKET)[
        "ServerSideEncryptionConfiguration"
    ]
    rule = encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    assert rule["SSEAlgorithm"] == "AES256"
    text = TEMPLATE.read_text("utf-8")
    assert "AbortIncompleteMultipartUpload" in text
    assert '"aws:SecureTransport": "false"' in text
    # moto keeps no public access block from a stack.
    for setting in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls"):
        assert f"{setting}: true" in text
    assert "RestrictPublicBuckets: true" in text


def test_a_private_network_has_a_subnet_in_every_zone_an_s3_gateway_and_no_way_out(world, tmp_path):
    _create_privately(world, tmp_path)
    ec2 = world.client("ec2")
    (network,) = [vpc for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]]
    own = [{"Name": "vpc-id", "Values": [network["VpcId"]]}]
    subnets = ec2.describe_subnets(Filters=own)["Subnets"]
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert len(zones) == 6
    assert {subnet["AvailabilityZone"] for subnet in subnets} == {z["ZoneName"] for z in zones}
    (endpoint,) = ec2.describe_vpc_endpoints(Filters=own)["VpcEndpoints"]
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert ec2.describe_nat_gateways()["NatGateways"] == []
    assert ec2.describe_internet_gateways()["InternetGateways"] == []
    (model,) = world.client("sagemaker").list_models()["Models"]
    made = world.client("sagemaker").describe_model(ModelName=model["ModelName"])
    assert sorted(made["VpcConfig"]["Subnets"]) == sorted(item["SubnetId"] for item in subnets)


def test_with_endpoints_the_network_also_reaches_ecr_and_the_logs_in_two_zones(
    world, tmp_path, capsys
):
    _create_privately(world, tmp_path, "endpoints")
    month = "0.060 USD per hour (1.44 per day, 44 per month)"
    assert f"The private network's endpoints: {month}." in capsys.readouterr().err
    ec2 = world.client("ec2")
    endpoints = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    interfaces = [each for each in endpoints if each["VpcEndpointType"] == "Interface"]
    services = {each["ServiceName"].partition(f"{REGION}.")[2] for each in interfaces}
    assert services == {"ecr.api", "ecr.dkr", "logs"}
    assert {len(each["SubnetIds"]) for each in interfaces} == {2}
    assert ec2.describe_nat_gateways()["NatGateways"] == []
    assert world.run(status.main) == 0
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "stack easel-main" in each]
    assert month in line


def test_the_networks_endpoints_stay_until_another_network_is_asked_for(world, tmp_path):
    def reached():
        (stack,) = world.client("cloudformation").describe_stacks()["Stacks"]
        parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}
        return parameters["PrivateNetwork"], parameters["InterfaceEndpoints"]

    _create_privately(world, tmp_path, "endpoints")
    assert create(world) == 0
    assert reached() == ("yes", "yes")
    _create_privately(world, tmp_path, "s3")
    assert reached() == ("yes", "no")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_region_with_fewer_zones_has_fewer_subnets(world, tmp_path, count):
    names = [f"{REGION}{letter}" for letter in "abcdef"[:count]]
    zones = [{"ZoneName": name, "ZoneType": "availability-zone"} for name in names]
    local = {"ZoneName": f"{REGION}-bos-1a", "ZoneType": "local-zone"}
    world._before_describe_availability_zones = lambda _: aws_response(
        {"AvailabilityZones": [local, *reversed(zones)]}
    )
    _create_privately(world, tmp_path)
    subnets = world.client("ec2").describe_subnets()["Subnets"]
    own = [subnet for subnet in subnets if not subnet["DefaultForAz"]]
    assert sorted(subnet["AvailabilityZone"] for subnet in own) == names


def _pulled(world):
    # moto does not update a role's policies.
    (stack,) = world.client("cloudformation").describe_stacks()["Stacks"]
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}
    return {arn.rpartition("/")[2] for arn in parameters["ImageRepositoryArns"].split(",")}


def test_the_images_of_all_models_can_be_pulled(world):
    world.client("ecr").create_repository(repositoryName="mine")
    put_image(world, "mine", "1")
    own = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mine:1"
    assert create(world) == 0
    assert create(world, "--image", own, model="sd-turbo") == 0
    assert _pulled(world) == {"huggingface-pytorch-inference", "mine"}
    # A repository that no model uses any more is dropped.
    assert create(world, model="sd-turbo") == 0
    assert create(world) == 0
    assert _pulled(world) == {"huggingface-pytorch-inference"}


def test_the_bucket_of_a_deployment_that_was_just_deleted_is_waited_for(world):
    refusal = "A conflicting conditional operation is currently in progress against this resource."
    world.stack_fails_with = ("Bucket", f"{refusal} (Service: S3, Status Code: 409)")
    slept = world.sleep

    def sleep(seconds):
        slept(seconds)
        if world.seconds > 150:
            world.stack_fails_with = None

    world.sleep = sleep
    assert create(world) == 0


def _create_privately(world, tmp_path, *reach):
    folder = write_pipeline(tmp_path / "tiny")
    assert create(world, "--weights", "s3", "--private-network", *reach, model=str(folder)) == 0


def test_checkov_finds_nothing_that_the_files_do_not_explain():
    """One run for all of them, of which most is the start."""
    root = TEMPLATE.parents[1]
    others = ("ci-roles.yaml", "training.yaml", "cdn.yaml")
    files = [TEMPLATE, *(TEMPLATE.with_name(name) for name in others)]
    # The download is of words to its findings; where it fails, it is tried again and again.
    command = [find_program("checkov"), "--skip-download", "--output", "json", "--compact"]
    command += ["--framework", "cloudformation", "github_actions"]
    for path in [*files, *sorted((root / ".github" / "workflows").glob("*.yml"))]:
        command += ["--file", str(path.relative_to(root))]
    reports = json.loads(_run(command, cwd=root).stdout)
    assert {report["check_type"] for report in reports} == {"cloudformation", "github_actions"}
    for report in reports:
        assert report["results"]["failed_checks"] == []
        assert report["summary"]["passed"] > 50
        for skipped in report["results"]["skipped_checks"]:
            assert skipped["check_result"]["suppress_comment"]


def test_parliament_finds_nothing_in_the_policies(policies, tmp_path):
    program = find_program("parliament")
    files = [tmp_path / f"{role}.json" for role in policies]
    for file, policy in zip(files, policies.values(), strict=True):
        file.write_text(json.dumps(policy), "utf-8")
    done = _run([program, "--files", ",".join(map(str, files))])
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
