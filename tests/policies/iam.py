"""IAM for the tests: which actions a call is, on which resources, and whether a policy allows it.

moto's own enforcement asks for no resource in most services, and counts an unmet condition as a
denial by the whole policy, so it cannot tell these policies right from wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

REGION, ACCOUNT = "us-east-1", "123456789012"
ARN = f"arn:aws:{{}}:{REGION}:{ACCOUNT}:{{}}"


@dataclass(frozen=True)
class Request:
    """An action on a resource, as IAM decides on it."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict, hash=False)


def allows(policy: Mapping[str, Any], request: Request) -> bool:
    """Whether a policy has a statement for the request, and none against it."""
    return _effects(policy, request) == {"Allow"}


def denies(policy: Mapping[str, Any], request: Request) -> bool:
    """Whether a policy has a statement against the request."""
    return "Deny" in _effects(policy, request)


def _effects(policy: Mapping[str, Any], request: Request) -> set[str]:
    return {
        statement["Effect"] for statement in policy["Statement"] if _concerns(statement, request)
    }


def refused(policy: Mapping[str, Any], requests: Iterable[Request]) -> list[Request]:
    return [request for request in requests if not allows(policy, request)]


def _concerns(statement: Mapping[str, Any], request: Request) -> bool:
    return (
        any(
            _matches(pattern.lower(), request.action.lower())
            for pattern in _list(statement["Action"])
        )
        and any(_matches(pattern, request.resource) for pattern in _list(statement["Resource"]))
        and all(
            _holds(operator, key, _list(values), request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, key: str, values: list[str], context: Mapping[str, str]) -> bool:
    actual = context.get(key)
    if operator == "Null":
        return (actual is None) == (values == ["true"])
    if actual is None:
        return False
    match operator:
        # No request here has several values of a key.
        case "StringEquals" | "ForAllValues:StringEquals" | "ArnEquals" | "Bool":
            return actual in values
        case "NumericLessThanEquals":
            return float(actual) <= float(values[0])
        case "StringLike":
            return any(_matches(pattern, actual) for pattern in values)
        case _:
            raise NotImplementedError(operator)


@cache  # the same few are compared for each statement of each policy
def _matches(pattern: str, text: str) -> bool:
    # IAM knows `*` and `?`; a bracket is itself.
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# What is not `<service>:<operation>`.
_PREFIXES = {
    "resourcegroupstaggingapi": "tag",
    "sagemaker-runtime": "sagemaker",
    "service-quotas": "servicequotas",
}
_ACTIONS = {
    "budgets.DescribeBudget": "budgets:ViewBudget",
    "s3.CompleteMultipartUpload": "s3:PutObject",
    "s3.CreateMultipartUpload": "s3:PutObject",
    "s3.DeleteObjects": "s3:DeleteObject",
    "s3.HeadBucket": "s3:ListBucket",
    "s3.HeadObject": "s3:GetObject",
    "s3.ListBuckets": "s3:ListAllMyBuckets",
    "s3.ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3.ListObjectVersions": "s3:ListBucketVersions",
    "s3.ListObjectsV2": "s3:ListBucket",
    "s3.ListParts": "s3:ListMultipartUploadParts",
    "s3.UploadPart": "s3:PutObject",
}
# No policy is asked about these.
FREE = {"sts.GetCallerIdentity"}
_TAGGING = {
    "application-autoscaling": "application-autoscaling:TagResource",
    "logs": "logs:TagResource",
    "sagemaker": "sagemaker:AddTags",
}
# Actions that are decided without a resource: IAM's service authorization reference.
_WITHOUT_RESOURCE = re.compile(
    r"(application-autoscaling:Describe|ec2:Describe|servicequotas:List|tag:Get"
    r"|lambda:(ListFunctions|GetAccountSettings)|logs:DescribeLogGroups|s3:ListAllMyBuckets"
    r"|codebuild:ListProjects|events:ListRules|scheduler:List(Schedules|ScheduleGroups)"
    r"|sagemaker:List(Models|Endpoints|EndpointConfigs|Pipelines|TrainingJobs)).*"
)


def requests_of(model: Any, params: Mapping[str, Any]) -> list[Request]:
    """Return what IAM decides on for one call of botocore's."""
    service = model.service_model.service_name
    operation = f"{service}.{model.name}"
    if operation in FREE:
        return []
    action = _ACTIONS.get(operation, f"{_PREFIXES.get(service, service)}:{model.name}")
    if service == "apigateway":
        action = f"apigateway:{model.http['method']}"
    arns = ["*"] if _WITHOUT_RESOURCE.fullmatch(action) else _resources(service, model, params)
    prefix = {"s3:prefix": params["Prefix"]} if operation == "s3.ListObjectsV2" else {}
    requests = [Request(action, arn, prefix) for arn in arns]
    tags = params.get("Tags") or params.get("tags")
    if tags and service in _TAGGING and model.name not in {"AddTags", "TagResource"}:
        requests += [Request(_TAGGING[service], arn) for arn in arns]
    if service == "cloudformation":
        requests = [Request(each.action, each.resource, _change_set(params)) for each in requests]
    if model.name == "CreateTrainingJob":
        context = _training_job(params)
        requests = [Request(each.action, each.resource, context) for each in requests]
    return [*requests, *_passed_roles(service, params)]


def _passed_roles(service: str, params: Mapping[str, Any]) -> list[Request]:
    """Return a request for each role that a call hands to a service."""
    roles = [(params.get("RoleARN"), service), (params.get("ExecutionRoleArn"), "sagemaker")]
    if service == "sagemaker":
        roles.append((params.get("RoleArn"), service))
    if service == "scheduler":
        roles.append((params.get("Target", {}).get("RoleArn"), service))
    return [
        Request("iam:PassRole", role, {"iam:PassedToService": f"{to}.amazonaws.com"})
        for role, to in roles
        if role
    ]


def _change_set(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the condition keys of calls on change sets."""
    # The ARN ends in the name and an id.
    name = params.get("ChangeSetName", "")
    context = {"cloudformation:ChangeSetName": name.split("/")[1] if "/" in name else name}
    return context | ({"cloudformation:RoleArn": params["RoleARN"]} if "RoleARN" in params else {})


def _training_job(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the condition keys of CreateTrainingJob."""
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
    tags = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in params.get("Tags", [])}
    return {
        **tags,
        "sagemaker:InstanceTypes": params["ResourceConfig"]["InstanceType"],
        "sagemaker:MaxRuntimeInSeconds": str(params["StoppingCondition"]["MaxRuntimeInSeconds"]),
        "sagemaker:NetworkIsolation": str(params.get("EnableNetworkIsolation", False)).lower(),
    }


def _resources(service: str, model: Any, params: Mapping[str, Any]) -> list[str]:
    if service in {"sagemaker", "sagemaker-runtime"}:
        return _of_sagemaker(params)
    if service == "s3":
        return _of_s3(params)
    if service == "apigateway":
        return [_of_api_gateway(model, params)]
    if service == "cloudwatch" and "AlarmNames" in params:
        return [ARN.format(service, f"alarm:{name}") for name in params["AlarmNames"]]
    return [_ARNS[service](params)]


_ARNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "application-autoscaling": lambda _: ARN.format("application-autoscaling", "scalable-target/1"),
    "budgets": lambda params: f"arn:aws:budgets::{ACCOUNT}:budget/{params['BudgetName']}",
    "cloudformation": lambda params: (
        ARN.format("cloudformation", f"stack/{params['StackName']}/1")
        if "StackName" in params
        else "*"
    ),
    "cloudwatch": lambda params: (
        params.get("ResourceARN")
        or ARN.format("cloudwatch", f"alarm:{params.get('AlarmName', '*')}")
    ),
    "codebuild": lambda params: ARN.format("codebuild", f"project/{_project(params)}"),
    "ecr": lambda params: (
        params.get("resourceArn")
        or f"arn:aws:ecr:{REGION}:{params.get('registryId', ACCOUNT)}"
        f":repository/{params.get('repositoryName', '*')}"
    ),
    "events": lambda params: str(params["ResourceARN"]),
    "iam": lambda params: str(params["PolicySourceArn"]),
    "scheduler": lambda params: ARN.format(
        "scheduler", f"schedule/{params['GroupName']}/{params['Name']}"
    ),
    "sns": lambda params: str(params["TopicArn"]),
    "lambda": lambda params: (
        params.get("Resource") or ARN.format("lambda", f"function:{params['FunctionName']}")
    ),
    "logs": lambda params: (
        params.get("resourceArn") or ARN.format("logs", f"log-group:{params.get('logGroupName')}")
    ),
}


def _project(params: Mapping[str, Any]) -> str:
    """Return the project that a call of CodeBuild's is about; it is a part of its builds' ids."""
    names = [params.get("projectName"), params.get("id"), *params.get("names", ())]
    (name,) = {name.partition(":")[0] for name in [*names, *params.get("ids", ())] if name}
    return str(name)


def _of_s3(params: Mapping[str, Any]) -> list[str]:
    bucket = f"arn:aws:s3:::{params['Bucket']}"
    keys = [item["Key"] for item in params.get("Delete", {}).get("Objects", [])]
    keys += [params["Key"]] if "Key" in params else []
    return [f"{bucket}/{key}" for key in keys] or [bucket]


def _of_api_gateway(model: Any, params: Mapping[str, Any]) -> str:
    path = model.http["requestUri"].partition("?")[0]
    members = model.input_shape.members
    for name, value in params.items():
        path = path.replace(f"{{{members[name].serialization.get('name', name)}}}", str(value))
    return f"arn:aws:apigateway:{REGION}::{path}"


def _of_sagemaker(params: Mapping[str, Any]) -> list[str]:
    if arn := params.get("ResourceArn"):
        return [arn]
    if "EndpointName" in params:
        names = [("endpoint", params["EndpointName"])]
        # CreateEndpoint and UpdateEndpoint are decided for the configuration as well.
        if "ProductionVariants" not in params and "EndpointConfigName" in params:
            names.append(("endpoint-config", params["EndpointConfigName"]))
    elif "EndpointConfigName" in params:
        names = [("endpoint-config", params["EndpointConfigName"])]
    elif "TrainingJobName" in params:
        names = [("training-job", params["TrainingJobName"])]
    elif arn := params.get("PipelineExecutionArn"):
        return [arn]
    elif "PipelineName" in params:
        names = [("pipeline", params["PipelineName"])]
    else:
        names = [("model", params["ModelName"])]
    return [ARN.format("sagemaker", f"{kind}/{name}") for kind, name in names]
