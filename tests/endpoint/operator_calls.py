"""The AWS calls that chalice and CloudFormation make with the operator's rights."""

from endpoint.core.naming import Deployment
from tests.endpoint.world import ACCOUNT, REGION
from tests.policies import iam

DEPLOYMENT = Deployment("main", ACCOUNT, REGION)
# Of chalice/deploy/executor.py, which runs as a process of its own.
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
# For each kind of resource in the template.
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
    # From CloudFormation's resource schemas, for the properties that the template sets.
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
