"""CloudFront in front of the gateway: its stack, and who has it."""

from __future__ import annotations

from types import SimpleNamespace

import boto3
import pytest

from endpoint.core.naming import Deployment
from endpoint.core.problems import BadArgument
from endpoint.provision import rights
from endpoint.provision.gateway import cdn
from endpoint.provision.gateway.gateway_access import CDN, access_of
from tests.endpoint.doubles import create, create_gateway
from tests.endpoint.world import ACCOUNT, REGION
from tests.policies.role_policies import read_template

OWN = "https://api.execute-api.us-east-1.amazonaws.com/api/"
SECRET = "c" * 43
STACK = "easel-main-cdn"
OPTIONS = {
    "keys": None,
    "open": True,
    "new_secret": False,
    "pictures_per_minute": None,
    "prompt_filter": None,
    "prompt_filter_words": None,
    "cors_origins": None,
}


def wanted(cdn_option):
    return SimpleNamespace(cdn=cdn_option)


def deployed(world, **variables):
    assert create(world) == 0  # makes the function's role
    return create_gateway(world, Environment={"Variables": variables})


def test_a_gateway_without_one_keeps_its_own_address(world, context):
    deployed(world)

    assert cdn.update(context, wanted(None), OWN) == OWN
    assert context.stacks.find(STACK) is None


def test_it_stays_until_it_is_taken_away(world, context):
    api = deployed(world, **{CDN: SECRET})
    url = cdn.update(context, wanted(True), OWN)

    assert url.endswith(".cloudfront.net/api/")
    assert cdn.update(context, wanted(None), OWN) == url
    domain = context.stacks.parameters(STACK)["ApiDomain"]
    assert domain == f"{api}.execute-api.{REGION}.amazonaws.com"

    world.client("lambda").update_function_configuration(
        FunctionName="easel-main", Environment={"Variables": {}}
    )
    assert cdn.update(context, wanted(False), OWN) == OWN
    assert context.stacks.find(STACK) is None


@pytest.mark.parametrize(
    ("option", "before", "stays"),
    [(None, False, False), (True, False, True), (False, True, False), (None, True, True)],
)
def test_its_secret_stays_as_it_is_and_goes_with_it(option, before, stays):
    variables = {CDN: SECRET} if before else {}
    access = access_of(SimpleNamespace(**OPTIONS, cdn=option), variables, "bucket").variables

    assert (CDN in access) is stays
    assert not (before and stays) or access[CDN] == SECRET
    assert not stays or len(access[CDN]) >= 32


def test_there_is_none_in_other_partitions():
    context = SimpleNamespace(
        deployment=Deployment("main", ACCOUNT, "cn-north-1", "aws-cn"),
        account=SimpleNamespace(region="cn-north-1"),
    )
    with pytest.raises(BadArgument, match="--cdn is not offered in cn-north-1"):
        cdn.check(context, wanted(True))
    cdn.check(context, wanted(None))


def test_the_operators_rights_are_actions_of_cloudfront_for_each_of_its_resources():
    deployment = Deployment("main", ACCOUNT, REGION)
    allowed = {
        action.partition(":")[2]
        for right in rights.cdn_rights(deployment)
        for action in right.actions
        if action.startswith("cloudfront:")
    }
    operations = boto3.client("cloudfront", region_name=REGION).meta.service_model.operation_names
    kinds = {
        each["Type"].rpartition(":")[2]
        for each in read_template(cdn.TEMPLATE)["Resources"].values()
    }

    assert allowed <= set(operations)
    for kind in kinds:
        assert {f"{verb}{kind}" for verb in ("Create", "Delete", "Get", "Update")} <= allowed
