"""Every statement of the roles' policies is needed, and none is missing.

`GuardedAws` refuses what the policies do not allow in all tests of this folder. These record which
calls the gateway makes, add what AWS itself does in the roles' names, and take statements away.
"""

from __future__ import annotations

import time

import openai
import pytest
import requests

from endpoint.emulator.aws_server import SAGEMAKER_KEY
from endpoint.emulator.process.clients import Clients
from tests.end_to_end.access import AUTHORIZED, KEY, create_link
from tests.end_to_end.account import (
    ASLEEP_ENDPOINT,
    ASYNC_ENDPOINT,
    BUCKET,
    ENDPOINT,
    LEASE_HOURS,
    REGION,
    hours_left,
)
from tests.end_to_end.calls import async_url, get, is_picture, picture_url
from tests.end_to_end.guarded_aws import GATEWAY_KEY
from tests.policies import iam, role_policies
from tests.policies.role_policies import OTHERS_ENDPOINT

GATEWAY_LOG = "log-group:/aws/lambda/easel-main:log-stream:2026/11/26/1"
SOURCES = role_policies.DEPLOYMENT.source_bucket
BUILD_LOG = "log-group:/aws/codebuild/easel-main-image:log-stream:1"
ENDPOINT_LOG = "log-group:/aws/sagemaker/Endpoints/easel-main-sd"
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
BY_LAMBDA = [
    iam.Request(f"logs:{action}", iam.ARN.format("logs", GATEWAY_LOG))
    for action in ("CreateLogStream", "PutLogEvents")
]
# A picture of an endpoint that somebody else has made.
OTHERS = iam.Request(
    "sagemaker:InvokeEndpoint", iam.ARN.format("sagemaker", f"endpoint/{OTHERS_ENDPOINT}")
)
# https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html#sagemaker-roles-createmodel-perms
BY_SAGEMAKER = [
    iam.Request("s3:GetObject", f"arn:aws:s3:::{BUCKET}/models/sd/1/inference.py"),
    iam.Request("s3:GetObject", f"arn:aws:s3:::{BUCKET}/loras/sd/pixel.safetensors"),
    iam.Request("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {"s3:prefix": "models/sd/1/"}),
    # By the container, which looks for adapters.
    iam.Request("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {"s3:prefix": "loras/sd/"}),
    *(
        iam.Request(f"ecr:{action}", role_policies.REPOSITORY)
        for action in ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")
    ),
    iam.Request("ecr:GetAuthorizationToken"),
    iam.Request("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "AWS/SageMaker"}),
    iam.Request("cloudwatch:PutMetricData", "*",
                {"cloudwatch:namespace": "/aws/sagemaker/Endpoints"}),
    iam.Request("logs:CreateLogGroup", iam.ARN.format("logs", ENDPOINT_LOG)),
    *(
        iam.Request(f"logs:{action}", iam.ARN.format("logs", f"{ENDPOINT_LOG}:log-stream:x"))
        for action in ("CreateLogStream", "DescribeLogStreams", "PutLogEvents")
    ),
    *(
        iam.Request(f"ec2:{action}", iam.ARN.format("ec2", resource))
        for action in ("CreateNetworkInterface", "CreateNetworkInterfacePermission")
        for resource in ("network-interface/eni-1", "subnet/subnet-a", "security-group/sg-1")
    ),
    iam.Request("ec2:DeleteNetworkInterface", iam.ARN.format("ec2", "network-interface/eni-1")),
    *(
        iam.Request(f"ec2:Describe{what}")
        for what in ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")
    ),
]  # fmt: skip
# https://docs.aws.amazon.com/codebuild/latest/userguide/setting-up-service-role.html and, for the
# push, https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
BY_CODEBUILD = [
    *(
        iam.Request(f"s3:{action}", f"arn:aws:s3:::{SOURCES}/image/source.zip")
        for action in ("GetObject", "GetObjectVersion")
    ),
    *(
        iam.Request(f"s3:{action}", f"arn:aws:s3:::{SOURCES}")
        for action in ("GetBucketAcl", "GetBucketLocation")
    ),
    *(
        iam.Request(f"logs:{action}", iam.ARN.format("logs", BUILD_LOG))
        for action in ("CreateLogStream", "PutLogEvents")
    ),
    iam.Request("ecr:GetAuthorizationToken"),
    *(
        iam.Request(f"ecr:{action}", iam.ARN.format("ecr", "repository/easel-main"))
        for action in ("BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload",
                       "DescribeImages", "InitiateLayerUpload", "PutImage", "UploadLayerPart")
    ),
]  # fmt: skip
BY_EVENTBRIDGE = [
    iam.Request("codebuild:StartBuild", iam.ARN.format("codebuild", "project/easel-main-image"))
]


@pytest.fixture(scope="module")
def asked(aws, guarded_local):
    """What the gateway asks of AWS for each kind of picture, and SageMaker for it."""
    picture = get(picture_url(guarded_local, "permissions"), headers=AUTHORIZED)
    assert is_picture(picture.content)
    picture = get(async_url(guarded_local, "permissions"), headers=AUTHORIZED)
    assert is_picture(picture.content)
    styled = picture_url(guarded_local, "permissions", lora="pixel")
    assert is_picture(get(styled, headers=AUTHORIZED).content)
    stored = picture_url(guarded_local, "permissions", model="stored", seed=1)
    assert is_picture(get(stored, headers=AUTHORIZED).content)
    deleted = requests.delete(stored, headers=AUTHORIZED, timeout=60)
    assert deleted.status_code == 204
    token = create_link(guarded_local, pictures=3)
    assert is_picture(get(picture_url(guarded_local, "permissions", seed=2, link=token)).content)
    used = get(f"{guarded_local}/usage?days=2", headers=AUTHORIZED).json()
    assert used["pictures"] >= 4
    _upload(guarded_local)
    _renew_and_wake(aws, guarded_local)
    return aws.asked


def _upload(gateway):
    """Have the gateway keep a file for a batch, and forget it."""
    line = b'{"custom_id": "1", "method": "POST", "url": "/v1/images/generations", "body": {}}'
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=KEY) as client:
        kept = client.files.create(file=("prompts.jsonl", line), purpose="batch")
        assert client.files.delete(kept.id).deleted


def _renew_and_wake(aws, gateway):
    """Wait until the gateway has renewed a lease, and have it create an endpoint again."""
    clients = Clients(lambda: aws.url)
    # Beside the first picture of the model, in a thread.
    until = time.monotonic() + 30
    while hours_left(clients, ENDPOINT) < 0.75 * LEASE_HOURS:
        assert time.monotonic() < until, "the lease was not renewed"
        time.sleep(0.1)
    ended = picture_url(gateway, "permissions", model="asleep")
    linked = get(f"{ended}&link={create_link(gateway, pictures=1)}")
    assert linked.json()["error"]["code"] == "endpoint_asleep"
    waking = get(ended, headers=AUTHORIZED)
    assert waking.json()["error"]["code"] == "endpoint_waking"
    assert hours_left(clients, ASLEEP_ENDPOINT) > 0.75 * LEASE_HOURS
    assert is_picture(get(ended, headers=AUTHORIZED).content)


def policies():
    for name, policy, calls, more in (
        # Plain chalice is in front of the deployment's endpoints alone.
        ("GatewayRole", role_policies.of_role("GatewayRole"), GATEWAY_KEY, [*BY_LAMBDA, OTHERS]),
        ("policy-dev.json", role_policies.of_plain_chalice(), GATEWAY_KEY, BY_LAMBDA),
        ("EndpointRole", role_policies.of_role("EndpointRole"), SAGEMAKER_KEY, BY_SAGEMAKER),
    ):
        for statement in policy["Statement"]:
            yield pytest.param(policy, statement, calls, more, id=f"{name}-{statement['Sid']}")


@pytest.mark.parametrize(
    ("role", "calls"), [("BuildRole", BY_CODEBUILD), ("BuildRuleRole", BY_EVENTBRIDGE)]
)
def test_a_build_can_do_its_work_and_every_statement_is_needed(role, calls):
    policy = role_policies.of_role(role)
    assert iam.refused(policy, calls) == []
    for statement in policy["Statement"]:
        rest = [other for other in policy["Statement"] if other is not statement]
        assert iam.refused({"Statement": rest}, calls), statement["Sid"]
        # No action of it is left over.
        used = {call.action for call in calls}
        assert set(statement["Action"]) <= used


@pytest.mark.parametrize(("policy", "statement", "caller", "more"), [*policies()])
def test_every_statement_is_needed(asked, policy, statement, caller, more):
    rest = [other for other in policy["Statement"] if other is not statement]
    requests_ = [*asked[caller], *more]
    assert iam.refused(policy, requests_) == []
    assert iam.refused({"Statement": rest}, requests_)


@pytest.mark.parametrize(
    "sid", ["LookAtTheEndpoints", "RenewTheLeases", "PassTheLeasesRole", "WakeTheEndpoints"]
)
def test_without_a_statement_no_endpoint_is_created_again(
    aws, guarded_local, asked, monkeypatch, sid
):
    sagemaker = Clients(lambda: aws.url).get("sagemaker", REGION)
    sagemaker.delete_endpoint(EndpointName=ASLEEP_ENDPOINT)
    ended = picture_url(guarded_local, "permissions", model="asleep")
    rest = [
        statement
        for statement in role_policies.of_role("GatewayRole")["Statement"]
        if statement["Sid"] != sid
    ]
    with monkeypatch.context() as without:
        without.setitem(aws.policies, GATEWAY_KEY, [{"Statement": rest}])
        refused = get(ended, headers=AUTHORIZED)
    assert refused.json()["error"]["code"] == "endpoint_missing"
    assert get(ended, headers=AUTHORIZED).json()["error"]["code"] == "endpoint_waking"


def test_a_missing_permission_is_noticed(aws, guarded_local, monkeypatch):
    nothing = {"Version": "2012-10-17", "Statement": []}
    monkeypatch.setitem(aws.policies, GATEWAY_KEY, [nothing])
    response = get(picture_url(guarded_local, "refused"), headers=AUTHORIZED)
    assert response.status_code == 502
    response = get(async_url(guarded_local, "refused"), headers=AUTHORIZED)
    assert response.status_code >= 500
    assert ASYNC_ENDPOINT not in response.text
