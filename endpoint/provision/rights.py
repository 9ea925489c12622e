"""What an operator must be allowed to do: the policy that `doctor --policy` prints, and its check.

Each right is one statement. Its actions support all of its resources, so that IAM can simulate them
together. CloudFormation, which has no role of its own here, works with the operator's rights, and
so does chalice; their calls are listed as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from endpoint.cli.context import Context
from endpoint.core.naming import Deployment

# The services that the roles are passed to, as `iam:PassedToService` names them in all partitions.
_SERVING, _FUNCTIONS = "sagemaker.amazonaws.com", "lambda.amazonaws.com"
_BUILDS, _EVENTS = "codebuild.amazonaws.com", "events.amazonaws.com"
_SCHEDULER = "scheduler.amazonaws.com"
_SCALING = "sagemaker.application-autoscaling.amazonaws.com"
_STACK_ACTIONS = (
    "cloudformation:ContinueUpdateRollback",
    "cloudformation:CreateChangeSet",
    "cloudformation:CreateStack",
    "cloudformation:DeleteChangeSet",
    "cloudformation:DeleteStack",
    "cloudformation:DescribeChangeSet",
    "cloudformation:DescribeStackEvents",
    "cloudformation:DescribeStackResources",
    "cloudformation:ExecuteChangeSet",
    "cloudformation:GetTemplate",
    "cloudformation:ListChangeSets",
    "cloudformation:UpdateStack",
)
_RULE_ACTIONS = (
    "events:DeleteRule",
    "events:DescribeRule",
    "events:ListTagsForResource",
    "events:ListTargetsByRule",
    "events:PutRule",
    "events:PutTargets",
    "events:RemoveTargets",
    "events:TagResource",
    "events:UntagResource",
)


@dataclass(frozen=True)
class Right:
    """One statement of the operator's policy.

    Attributes:
        sid: its name.
        actions: IAM actions, of which each supports each resource.
        resources: ARNs; `*` stands for any text, and alone for actions without resources.
        context: the values of condition keys under which it is needed.
    """

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    context: Mapping[str, str] = field(default_factory=dict)

    def statement(self) -> dict[str, Any]:
        """Return the statement that grants the right."""
        statement: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": list(self.actions),
            "Resource": list(self.resources),
        }
        if self.context:
            statement["Condition"] = {"StringEquals": dict(self.context)}
        return statement


@dataclass(frozen=True)
class Denial:
    """What IAM's simulation does not allow of a right.

    Attributes:
        right: the right.
        actions: those of its actions that are not allowed.
        certain: whether a policy denies them whatever the request's context is.
    """

    right: Right
    actions: tuple[str, ...]
    certain: bool

    def statement(self) -> str:
        """Return the statement that would allow them, as JSON."""
        return json.dumps(self.right.statement() | {"Action": list(self.actions)})


# What `doctor --policy` prints: IAM limits a managed policy to 6,144 characters, so that the rights
# of an operator are several, each for a part of the work.
PARTS = ("stack", "endpoints", "gateway", "cdn", "training")


def policy(deployment: Deployment, part: str = "") -> dict[str, Any]:
    """Return the smallest policy with which the scripts work on a deployment.

    Args:
        deployment: any.
        part: one of `PARTS`; empty for all but the CDN and training in one, which is longer than
            IAM allows.
    """
    parts = {
        "": rights,
        "stack": _stack_rights,
        "endpoints": _endpoint_rights,
        "gateway": _gateway_rights,
        "cdn": cdn_rights,
        "training": training_rights,
    }
    return {
        "Version": "2012-10-17",
        "Statement": [right.statement() for right in parts[part](deployment)],
    }


def simulate(context: Context, caller: str, model: str, *, training: bool = False) -> list[Denial]:
    """Return what the caller's policies do not allow.

    Args:
        context: the deployment.
        caller: the ARN whose policies apply.
        model: stands for the `*` in the ARNs of what does not exist yet.
        training: whether the rights for training are needed as well.

    Raises:
        ClientError: if IAM refuses the simulation.
    """
    client = context.account.client("iam")
    denials = []
    needed = [*rights(context.deployment)]
    needed += training_rights(context.deployment) if training else []
    for right in needed:
        arns = [arn if arn == "*" else arn.replace("*", model) for arn in right.resources]
        response = client.simulate_principal_policy(
            PolicySourceArn=caller,
            ActionNames=list(right.actions),
            ResourceArns=arns,
            ContextEntries=[
                {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
                for key, value in right.context.items()
            ],
        )
        refused = [
            result
            for result in response["EvaluationResults"]
            if result["EvalDecision"] != "allowed"
        ]
        if refused:
            denials.append(_denial(right, refused))
    return denials


def _denial(right: Right, refused: list[dict[str, Any]]) -> Denial:
    certain = [
        result["EvalDecision"] == "explicitDeny" and not result.get("MissingContextValues")
        for result in refused
    ]
    actions = dict.fromkeys(result["EvalActionName"] for result in refused)
    return Denial(right, tuple(actions), any(certain))


def training_rights(deployment: Deployment) -> Iterator[Right]:
    """Yield what `train` and `deploy --training` need besides `rights`."""
    stack = _arn(deployment, "cloudformation", f"stack/{deployment.training_stack}/*")
    yield Right("TrainingStack", _STACK_ACTIONS, (stack,))
    for sid, roles, service in (
        ("PassTheTrainingRoles", (deployment.training_role, deployment.pipeline_role), _SERVING),
        ("PassTheTrainingRulesRole", (deployment.training_rule_role,), _EVENTS),
    ):
        yield Right(sid, ("iam:PassRole",), roles, {"iam:PassedToService": service})
    for sid, resource, actions in (
        (
            "TrainingJobs",
            f"training-job/{deployment.prefix}-*",
            ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob"),
        ),
        (
            "TrainingPipeline",
            f"pipeline/{deployment.training_stack}",
            (
                "CreatePipeline",
                "DeletePipeline",
                "DescribePipeline",
                "UpdatePipeline",
                "ListPipelineExecutions",
                "StartPipelineExecution",
            ),
        ),
        (
            "TrainingPipelineExecutions",
            f"pipeline/{deployment.training_stack}/execution/*",
            ("ListPipelineExecutionSteps", "ListPipelineParametersForExecution"),
        ),
    ):
        names = tuple(f"sagemaker:{action}" for action in (*actions, "AddTags", "ListTags"))
        yield Right(sid, names, (_arn(deployment, "sagemaker", resource),))
    rules = tuple(_arn(deployment, "events", f"rule/{name}") for name in deployment.training_rules)
    yield Right("TrainingRules", _RULE_ACTIONS, rules)


def cdn_rights(deployment: Deployment) -> Iterator[Right]:
    """Yield what `deploy --cdn` needs besides `rights`."""
    stack = _arn(deployment, "cloudformation", f"stack/{deployment.cdn_stack}/*")
    yield Right("CdnStack", _STACK_ACTIONS, (stack,))
    everywhere = f"arn:{deployment.partition}:cloudfront::{deployment.account}"
    # CloudFront chooses the ids of policies and distributions; a function has its name.
    for sid, resource, actions in (
        (
            "CdnFunction",
            f"function/{deployment.prefix}-{deployment.region}",
            ("CreateFunction", "DeleteFunction", "DescribeFunction", "GetFunction",
             "PublishFunction", "UpdateFunction"),
        ),
        (
            "CdnCachePolicy",
            "cache-policy/*",
            ("CreateCachePolicy", "DeleteCachePolicy", "GetCachePolicy", "UpdateCachePolicy"),
        ),
        (
            "CdnDistribution",
            "distribution/*",
            ("CreateDistribution", "DeleteDistribution", "GetDistribution",
             "GetDistributionConfig", "ListTagsForResource", "TagResource", "UntagResource",
             "UpdateDistribution"),
        ),
    ):  # fmt: skip
        names = tuple(f"cloudfront:{action}" for action in actions)
        yield Right(sid, names, (f"{everywhere}:{resource}",))


def rights(deployment: Deployment) -> Iterator[Right]:
    """Yield every right that the scripts need, apart from training."""
    yield from _stack_rights(deployment)
    yield from _endpoint_rights(deployment)
    yield from _gateway_rights(deployment)


def _stack_rights(deployment: Deployment) -> Iterator[Right]:
    """Yield what the stack's own resources need, and passing its roles on."""
    yield from _infrastructure(deployment)
    yield from _network(deployment)
    yield from _roles(deployment)
    yield from _guard(deployment)


def _endpoint_rights(deployment: Deployment) -> Iterator[Right]:
    """Yield what endpoints, their files, logs and leases need."""
    yield from _storage(deployment)
    yield from _models(deployment)
    yield from _leases(deployment)
    yield from _scaling(deployment)
    yield from _monitoring(deployment)


def _gateway_rights(deployment: Deployment) -> Iterator[Right]:
    """Yield what the gateway and the image need, and the searches of all commands."""
    yield from _gateway(deployment)
    yield from _image(deployment)
    yield from _searches(deployment)


def _arn(deployment: Deployment, service: str, resource: str) -> str:
    here = f"{deployment.region}:{deployment.account}"
    return f"arn:{deployment.partition}:{service}:{here}:{resource}"


def _infrastructure(deployment: Deployment) -> Iterator[Right]:
    yield Right(
        "Stack",
        _STACK_ACTIONS,
        (_arn(deployment, "cloudformation", f"stack/{deployment.stack}/*"),),
    )
    yield Right(
        "Budget",
        (
            "budgets:ListTagsForResource",
            "budgets:ModifyBudget",
            "budgets:TagResource",
            "budgets:UntagResource",
            "budgets:ViewBudget",
        ),
        (f"arn:{deployment.partition}:budgets::{deployment.account}:budget/{deployment.prefix}-*",),
    )


def _network(deployment: Deployment) -> Iterator[Right]:
    """Yield the rights for --private-network, whose resources have no names of their own."""
    kinds = ("route-table", "security-group", "subnet", "vpc", "vpc-endpoint")
    yield Right(
        "PrivateNetwork",
        (
            "ec2:AssociateRouteTable",
            "ec2:AuthorizeSecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:CreateRouteTable",
            "ec2:CreateSecurityGroup",
            "ec2:CreateSubnet",
            "ec2:CreateTags",
            "ec2:CreateVpc",
            "ec2:CreateVpcEndpoint",
            "ec2:DeleteRouteTable",
            "ec2:DeleteSecurityGroup",
            "ec2:DeleteSubnet",
            "ec2:DeleteTags",
            "ec2:DeleteVpc",
            "ec2:DeleteVpcEndpoints",
            "ec2:DescribeVpcAttribute",
            "ec2:DisassociateRouteTable",
            "ec2:ModifySubnetAttribute",
            "ec2:ModifyVpcAttribute",
            "ec2:ModifyVpcEndpoint",
            "ec2:RevokeSecurityGroupEgress",
            "ec2:RevokeSecurityGroupIngress",
        ),
        tuple(_arn(deployment, "ec2", f"{kind}/*") for kind in kinds),
    )
    # The zones of interface endpoints' names have ids of AWS's choice, in an account of AWS.
    zones = f"arn:{deployment.partition}:route53:::hostedzone/*"
    yield Right("NetworkNames", ("route53:AssociateVPCWithHostedZone",), (zones,))
    yield Right(
        "SeeTheNetwork",
        (
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribePrefixLists",
            "ec2:DescribeRouteTables",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeTags",
            "ec2:DescribeVpcEndpoints",
            "ec2:DescribeVpcs",
        ),
    )


def _roles(deployment: Deployment) -> Iterator[Right]:
    account = f"arn:{deployment.partition}:iam::{deployment.account}"
    yield Right(
        "Roles",
        (
            "iam:CreateRole",
            "iam:DeleteRole",
            "iam:DeleteRolePolicy",
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
            "iam:PutRolePolicy",
            "iam:TagRole",
            "iam:UntagRole",
            "iam:UpdateAssumeRolePolicy",
            "iam:UpdateRole",
            "iam:UpdateRoleDescription",
        ),
        # All of the templates.
        (f"{account}:role/{deployment.prefix}-*-{deployment.region}",),
    )
    for sid, role, service in (
        ("PassTheEndpointsRole", deployment.endpoint_role, _SERVING),
        ("PassTheGatewaysRole", deployment.gateway_role, _FUNCTIONS),
        ("PassTheBuildsRole", deployment.build_role, _BUILDS),
        ("PassTheRulesRole", deployment.build_rule_role, _EVENTS),
        ("PassTheGuardsRole", deployment.guard_role, _FUNCTIONS),
        ("PassTheLeasesRole", deployment.lease_role, _SCHEDULER),
    ):
        yield Right(sid, ("iam:PassRole",), (role,), {"iam:PassedToService": service})
    # Once per account, by the first scalable target.
    linked = f"{account}:role/aws-service-role/{_SCALING}"
    yield Right(
        "ScalingsOwnRole",
        ("iam:CreateServiceLinkedRole",),
        (f"{linked}/*",),
        {"iam:AWSServiceName": _SCALING},
    )


def _guard(deployment: Deployment) -> Iterator[Right]:
    """Yield what the stack needs for the guard, and for what calls it and its mails."""
    group = _arn(deployment, "scheduler", f"schedule-group/{deployment.lease_group}")
    yield Right(
        "LeaseGroup",
        (
            "scheduler:CreateScheduleGroup",
            "scheduler:DeleteScheduleGroup",
            "scheduler:GetScheduleGroup",
            "scheduler:ListTagsForResource",
            "scheduler:TagResource",
            "scheduler:UntagResource",
        ),
        (group,),
    )
    yield Right(
        "Guard",
        (
            "lambda:CreateFunction",
            "lambda:DeleteFunction",
            "lambda:GetFunction",
            "lambda:GetFunctionConfiguration",
            "lambda:ListTags",
            "lambda:TagResource",
            "lambda:UntagResource",
            "lambda:UpdateFunctionCode",
            "lambda:UpdateFunctionConfiguration",
        ),
        (_arn(deployment, "lambda", f"function:{deployment.guard}"),),
    )
    yield Right(
        "SpendMail",
        (
            "sns:CreateTopic",
            "sns:DeleteTopic",
            "sns:GetTopicAttributes",
            "sns:ListSubscriptionsByTopic",
            "sns:ListTagsForResource",
            "sns:SetTopicAttributes",
            "sns:Subscribe",
            "sns:TagResource",
            "sns:UntagResource",
        ),
        (deployment.spend_topic,),
    )
    # It supports no resource ARNs.
    yield Right("SpendMailEnds", ("sns:Unsubscribe",), ("*",))


def _leases(deployment: Deployment) -> Iterator[Right]:
    group = deployment.lease_group
    yield Right(
        "Leases",
        (
            "scheduler:CreateSchedule",
            "scheduler:DeleteSchedule",
            "scheduler:GetSchedule",
            "scheduler:UpdateSchedule",
        ),
        (_arn(deployment, "scheduler", f"schedule/{group}/*"),),
    )


def _storage(deployment: Deployment) -> Iterator[Right]:
    buckets = tuple(
        f"arn:{deployment.partition}:s3:::{name}"
        for name in (deployment.bucket, deployment.source_bucket)
    )
    yield Right(
        "Bucket",
        (
            "s3:CreateBucket",
            "s3:DeleteBucket",
            "s3:DeleteBucketPolicy",
            "s3:GetBucketPolicy",
            "s3:GetBucketTagging",
            "s3:ListBucket",
            "s3:ListBucketMultipartUploads",
            "s3:ListBucketVersions",
            "s3:PutBucketCORS",
            "s3:PutBucketNotification",
            "s3:PutBucketOwnershipControls",
            "s3:PutBucketPolicy",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketTagging",
            "s3:PutBucketVersioning",
            "s3:PutEncryptionConfiguration",
            "s3:PutLifecycleConfiguration",
        ),
        buckets,
    )
    yield Right(
        "Files",
        (
            "s3:AbortMultipartUpload",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
            "s3:GetObject",
            "s3:ListMultipartUploadParts",
            "s3:PutObject",
        ),
        tuple(f"{bucket}/*" for bucket in buckets),
    )


def _models(deployment: Deployment) -> Iterator[Right]:
    for sid, kind, actions in (
        ("Models", "model", ("CreateModel", "DeleteModel", "DescribeModel")),
        (
            "EndpointConfigs",
            "endpoint-config",
            (
                "CreateEndpointConfig",
                "DeleteEndpointConfig",
            ),
        ),
        (
            "Endpoints",
            "endpoint",
            (
                "DeleteEndpoint",
                "InvokeEndpoint",
                "InvokeEndpointAsync",
                "UpdateEndpointWeightsAndCapacities",
            ),
        ),
    ):
        yield Right(
            sid,
            tuple(f"sagemaker:{action}" for action in (*actions, "AddTags", "ListTags")),
            (_arn(deployment, "sagemaker", f"{kind}/{deployment.prefix}-*"),),
        )
    # Both actions are checked against the endpoint and against its configuration.
    yield Right(
        "EndpointsAndConfigs",
        ("sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"),
        tuple(
            _arn(deployment, "sagemaker", f"{kind}/{deployment.prefix}-*")
            for kind in ("endpoint", "endpoint-config")
        ),
    )
    yield Right(
        "ServingImage",
        ("ecr:BatchGetImage", "ecr:DescribeRepositories"),
        (f"arn:{deployment.partition}:ecr:*:*:repository/*",),
    )


def _image(deployment: Deployment) -> Iterator[Right]:
    yield Right(
        "Repository",
        (
            "ecr:CreateRepository",
            "ecr:DeleteRepository",
            "ecr:DescribeImages",
            "ecr:GetLifecyclePolicy",
            "ecr:GetRepositoryPolicy",
            "ecr:ListTagsForResource",
            "ecr:PutImageScanningConfiguration",
            "ecr:PutImageTagMutability",
            "ecr:PutLifecyclePolicy",
            "ecr:TagResource",
            "ecr:UntagResource",
        ),
        (_arn(deployment, "ecr", f"repository/{deployment.repository}"),),
    )
    yield Right(
        "Builds",
        (
            "codebuild:BatchGetBuilds",
            "codebuild:BatchGetProjects",
            "codebuild:CreateProject",
            "codebuild:DeleteProject",
            "codebuild:ListBuildsForProject",
            "codebuild:StartBuild",
            "codebuild:StopBuild",
            "codebuild:UpdateProject",
        ),
        (_arn(deployment, "codebuild", f"project/{deployment.build_project}"),),
    )
    yield Right(
        "BuildRule",
        _RULE_ACTIONS,
        (
            _arn(deployment, "events", f"rule/{deployment.build_project}"),
            deployment.batch_rule_arn,
        ),
    )


def _scaling(deployment: Deployment) -> Iterator[Right]:
    # The ARN of a scalable target has an id that AWS chooses.
    yield Right(
        "Scaling",
        (
            "application-autoscaling:DeleteScalingPolicy",
            "application-autoscaling:DeregisterScalableTarget",
            "application-autoscaling:ListTagsForResource",
            "application-autoscaling:PutScalingPolicy",
            "application-autoscaling:RegisterScalableTarget",
            "application-autoscaling:TagResource",
        ),
        (_arn(deployment, "application-autoscaling", "scalable-target/*"),),
    )
    yield Right(
        "Alarms",
        (
            "cloudwatch:DeleteAlarms",
            "cloudwatch:ListTagsForResource",
            "cloudwatch:PutMetricAlarm",
            "cloudwatch:TagResource",
        ),
        (_arn(deployment, "cloudwatch", f"alarm:{deployment.prefix}-*"),),
    )
    yield Right(
        "SeeAlarms", ("cloudwatch:DescribeAlarms",), (_arn(deployment, "cloudwatch", "alarm:*"),)
    )


def _monitoring(deployment: Deployment) -> Iterator[Right]:
    account, partition = deployment.account, deployment.partition
    yield Right(
        "Dashboard",
        ("cloudwatch:DeleteDashboards", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard"),
        (f"arn:{partition}:cloudwatch::{account}:dashboard/{deployment.prefix}-*",),
    )
    groups = (
        f"/aws/sagemaker/Endpoints/{deployment.prefix}-*",
        # IAM compares both forms, depending on the action.
        f"/aws/lambda/{deployment.prefix}",
        f"/aws/lambda/{deployment.prefix}:*",
        f"/aws/lambda/{deployment.guard}*",
        f"{deployment.build_log}*",
    )
    yield Right(
        "Logs",
        (
            "logs:CreateLogGroup",
            "logs:DeleteLogGroup",
            "logs:FilterLogEvents",
            "logs:GetLogEvents",
            "logs:ListTagsForResource",
            "logs:PutRetentionPolicy",
            "logs:TagResource",
            "logs:UntagResource",
        ),
        tuple(_arn(deployment, "logs", f"log-group:{group}") for group in groups),
    )


def _gateway(deployment: Deployment) -> Iterator[Right]:
    yield Right(
        "Function",
        (
            "lambda:AddPermission",
            "lambda:CreateFunction",
            "lambda:DeleteFunction",
            "lambda:DeleteFunctionConcurrency",
            "lambda:GetFunction",
            "lambda:GetFunctionConcurrency",
            "lambda:GetFunctionConfiguration",
            "lambda:GetPolicy",
            "lambda:ListTags",
            "lambda:PutFunctionConcurrency",
            "lambda:RemovePermission",
            "lambda:TagResource",
            "lambda:UntagResource",
            "lambda:UpdateFunctionCode",
            "lambda:UpdateFunctionConfiguration",
        ),
        (deployment.function_arn,),
    )
    # An API's id is AWS's choice, so its ARN tells nothing about the deployment.
    root = f"arn:{deployment.partition}:apigateway:{deployment.region}::"
    yield Right("FindApis", ("apigateway:GET", "apigateway:POST"), (f"{root}/restapis",))
    yield Right(
        "Apis",
        ("apigateway:DELETE", "apigateway:GET", "apigateway:PATCH", "apigateway:POST",
         "apigateway:PUT"),
        (f"{root}/restapis/*",),
    )  # fmt: skip
    yield Right("TagApis", ("apigateway:PUT",), (f"{root}/tags/*",))


def _searches(deployment: Deployment) -> Iterator[Right]:
    # Everybody's instances count against the quota.
    yield Right(
        "CountInstances",
        ("sagemaker:DescribeEndpoint", "sagemaker:DescribeEndpointConfig"),
        tuple(
            _arn(deployment, "sagemaker", f"{kind}/*") for kind in ("endpoint", "endpoint-config")
        ),
    )
    account = f"arn:{deployment.partition}:iam::{deployment.account}"
    yield Right(
        "DoctorsSimulation",
        ("iam:SimulatePrincipalPolicy",),
        (f"{account}:user/*", f"{account}:role/*"),
    )
    yield Right(
        "Searches",
        (
            "application-autoscaling:DescribeScalableTargets",
            "application-autoscaling:DescribeScalingPolicies",
            "cloudformation:DescribeStacks",
            "codebuild:ListProjects",
            "events:ListRules",
            "lambda:GetAccountSettings",
            "lambda:ListFunctions",
            "logs:DescribeLogGroups",
            "s3:ListAllMyBuckets",
            "scheduler:ListScheduleGroups",
            "scheduler:ListSchedules",
            "sagemaker:ListEndpointConfigs",
            "sagemaker:ListEndpoints",
            "sagemaker:ListModels",
            "sagemaker:ListPipelines",
            "sagemaker:ListTrainingJobs",
            "servicequotas:GetServiceQuota",
            "servicequotas:ListServiceQuotas",
            "tag:GetResources",
        ),
    )
