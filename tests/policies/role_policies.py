"""The policies of the templates' roles, with all that options add, for a deployment `main`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from endpoint.core.naming import Deployment
from endpoint.provision import infrastructure
from endpoint.provision.training import stack
from tests.packages import ROOT
from tests.policies.iam import ACCOUNT, REGION

DEPLOYMENT = Deployment("main", ACCOUNT, REGION)
REPOSITORY = f"arn:aws:ecr:{REGION}:763104351884:repository/huggingface-pytorch-inference"
OTHERS_ENDPOINT = "made-by-others"
_BUCKET = f"arn:aws:s3:::{DEPLOYMENT.bucket}"
_VALUES = {
    "AWS::AccountId": ACCOUNT,
    "AWS::NoValue": None,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "Bucket": DEPLOYMENT.bucket,
    "Bucket.Arn": _BUCKET,
    "DeploymentName": DEPLOYMENT.name,
    "ImageRepositoryArns": [REPOSITORY],
    "InstanceTypes": ["ml.g5.xlarge"],
    "LeaseRole.Arn": DEPLOYMENT.lease_role,
    "LongestRun": "3600",
    "OtherEndpoints": [f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/{OTHERS_ENDPOINT}"],
    "Repository.Arn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{DEPLOYMENT.repository}",
    "SecurityGroup": "sg-1",
    "SourceBucket.Arn": f"arn:aws:s3:::{DEPLOYMENT.source_bucket}",
    "TrainingRole.Arn": DEPLOYMENT.training_role,
    **{f"Subnet{letter}": f"subnet-{letter.lower()}" for letter in "ABCDEF"},
}


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short tags as their values."""


def _tagged(loader: Any, tag: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    else:
        value = loader.construct_sequence(node, deep=True)
    match tag:
        case "Ref" | "GetAtt":
            return _VALUES.get(value, value)
        case "Sub":
            for name, replacement in _VALUES.items():
                value = value.replace(f"${{{name}}}", str(replacement))
            return value
        case "If":
            return value[1]  # every option is on
        case "Split":
            return value[1]  # the values above are lists
    return value


_Loader.add_multi_constructor("!", _tagged)


@cache
def read_template(path: Path) -> dict[str, Any]:
    """Return a template with its parameters filled in and every option on."""
    template: dict[str, Any] = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    return template


def of_role(name: str) -> dict[str, Any]:
    """Return the policy of a role, such as `EndpointRole`."""
    (policy,) = _properties(name)["Policies"]
    document: dict[str, Any] = policy["PolicyDocument"]
    return document


def of_gateway_that_trains() -> dict[str, Any]:
    """Return the policies of the gateway's role together, with those of training."""
    more = _properties("GatewayPolicy")["PolicyDocument"]["Statement"]
    return {"Statement": [*of_role("GatewayRole")["Statement"], *more]}


def _properties(name: str) -> dict[str, Any]:
    """Return the properties of a resource in one of the templates."""
    resources: dict[str, Any] = {}
    for template in (infrastructure.TEMPLATE, stack.TEMPLATE):
        resources |= read_template(template)["Resources"]
    properties: dict[str, Any] = resources[name]["Properties"]
    return properties


def of_plain_chalice() -> dict[str, Any]:
    """Return the policy that `chalice deploy` gives the function by itself."""
    document: dict[str, Any] = json.loads(
        (ROOT / "gateway" / ".chalice" / "policy-dev.json").read_text("utf-8")
    )
    return document
