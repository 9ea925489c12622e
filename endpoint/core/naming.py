"""The names of a deployment's resources: every script finds resources by them, and by one tag."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endpoint.core.problems import BadArgument

APP = "easel"
TAG = "easel"
# With `easel-`, a model's name of 27, a hash of 8 and two hyphens: the 63 characters that SageMaker
# allows.
LONGEST_NAME = 20
# No hyphen: `easel-main-sd` must belong to the deployment `main` and to no other.
_NAME = re.compile(rf"[a-z][a-z0-9]{{0,{LONGEST_NAME - 1}}}")
# The optional rest is the model's name, or the bucket's account and region.
_OWNED = re.compile(r"easel-([a-z][a-z0-9]*)(?:-.*)?")


@dataclass(frozen=True)
class Deployment:
    """One of possibly several Easels in an account and region.

    Args:
        name: a lower-case letter, then lower-case letters and digits; at most 20 characters.
        account: the account's twelve digits.
        region: such as us-east-1.
        partition: aws, aws-cn or aws-us-gov.

    Raises:
        BadArgument: if the name has another form.
    """

    name: str
    account: str
    region: str
    partition: str = "aws"

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def prefix(self) -> str:
        """The beginning of every name of this deployment."""
        return f"{APP}-{self.name}"

    @property
    def stack(self) -> str:
        """The CloudFormation stack."""
        return self.prefix

    @property
    def function(self) -> str:
        """The gateway's Lambda function, as chalice calls it for this stage."""
        return self.prefix

    @property
    def function_arn(self) -> str:
        """The ARN of the Lambda function: others have functions of the same name."""
        return f"arn:{self.partition}:lambda:{self.region}:{self.account}:function:{self.function}"

    @property
    def batch_rule_arn(self) -> str:
        """The ARN of the rule that continues batches of the gateway."""
        rule = f"rule/{self.prefix}-batches"
        return f"arn:{self.partition}:events:{self.region}:{self.account}:{rule}"

    @property
    def bucket(self) -> str:
        """The S3 bucket; at most 59 characters of the 63 that S3 allows."""
        # Bucket names are unique across all accounts, so the account is a part of it.
        return f"{self.prefix}-{self.account}-{self.region}"

    @property
    def source_bucket(self) -> str:
        """The S3 bucket of the image's sources; at most 63 characters."""
        return f"{self.bucket}-src"

    @property
    def repository(self) -> str:
        """The ECR repository of the deployment's own image."""
        return self.prefix

    @property
    def registry(self) -> str:
        """The host of the account's registry in the region."""
        domain = {"aws-cn": "amazonaws.com.cn", "aws-eusc": "amazonaws.eu"}
        suffix = domain.get(self.partition, "amazonaws.com")
        return f"{self.account}.dkr.ecr.{self.region}.{suffix}"

    @property
    def build_project(self) -> str:
        """The CodeBuild project that builds the image, and the rule that starts it."""
        return f"{self.prefix}-image"

    @property
    def build_log(self) -> str:
        """The log group of the builds."""
        return f"/aws/codebuild/{self.build_project}"

    @property
    def endpoint_role(self) -> str:
        """The ARN of the model's role; role names are global, so they include the region."""
        return self._role("endpoint")

    @property
    def gateway_role(self) -> str:
        """The ARN of the Lambda function's role."""
        return self._role("gateway")

    @property
    def build_role(self) -> str:
        """The ARN of the role of the image's builds."""
        return self._role("build")

    @property
    def build_rule_role(self) -> str:
        """The ARN of the role of the rule that builds the image when its sources change."""
        return self._role("build-rule")

    @property
    def cdn_stack(self) -> str:
        """The CloudFormation stack of the CDN in front of the gateway."""
        return f"{self.prefix}-cdn"

    @property
    def lease_group(self) -> str:
        """The group of the schedules that end endpoints; each has the name of its endpoint."""
        return self.prefix

    @property
    def lease_role(self) -> str:
        """The ARN of the role of those schedules."""
        return self._role("lease")

    @property
    def guard(self) -> str:
        """The Lambda function that ends what a schedule could not, and counts the spending."""
        return f"{self.prefix}-guard"

    @property
    def guard_role(self) -> str:
        """The ARN of the guard's role."""
        return self._role("guard")

    @property
    def spend_topic(self) -> str:
        """The ARN of the SNS topic of the cap's mails."""
        here = f"{self.region}:{self.account}"
        return f"arn:{self.partition}:sns:{here}:{self.prefix}-spend"

    @property
    def training_stack(self) -> str:
        """The CloudFormation stack for training; also the name of its pipeline."""
        return f"{self.prefix}-training"

    @property
    def training_rules(self) -> tuple[str, str]:
        """The rules that start the pipeline, and that report the end of a training job."""
        return f"{self.training_stack}-start", f"{self.training_stack}-end"

    @property
    def training_role(self) -> str:
        """The ARN of the role of training jobs."""
        return self._role("training")

    @property
    def pipeline_role(self) -> str:
        """The ARN of the role of the pipeline for training."""
        return self._role("training-pipeline")

    @property
    def training_rule_role(self) -> str:
        """The ARN of the role of the rule that starts the pipeline."""
        return self._role("training-rule")

    def _role(self, what: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role/{self.prefix}-{what}-{self.region}"

    @property
    def tags(self) -> list[dict[str, str]]:
        """The tag of every resource, in the form that most services take."""
        return [{"Key": TAG, "Value": self.name}]

    def endpoint(self, model: str) -> str:
        """Return the name of a model's endpoint."""
        return f"{self.prefix}-{model}"

    def model_of(self, endpoint: str) -> str:
        """Return the model behind an endpoint of this deployment."""
        return endpoint.removeprefix(f"{self.prefix}-")

    def versioned(self, model: str, content: Any) -> str:
        """Return a name for a resource that SageMaker cannot change once it exists.

        It ends in a hash of the content: equal content has an equal name, so that a resource that
        already exists can be used as it is.
        """
        return f"{self.endpoint(model)}-{digest(content)}"

    def is_version_of(self, name: str, model: str) -> bool:
        """Whether `name` is a version, from `versioned`, of this model."""
        return self.model_of_version(name) == model

    def model_of_version(self, name: str) -> str | None:
        """Return the model of a name from `versioned`; None for any other name."""
        match = re.fullmatch(rf"{re.escape(self.prefix)}-(.+)-[0-9a-f]{{8}}", name)
        return match[1] if match else None

    def owns(self, name: str) -> bool:
        """Whether a resource of this name belongs to this deployment."""
        return owner(name) == self.name


def check_name(name: str) -> str:
    """Return a deployment's name.

    Raises:
        BadArgument: if it has the wrong form.
    """
    if not _NAME.fullmatch(name):
        raise BadArgument(
            f"{name!r} cannot be a deployment's name: it must be a lower-case letter, then"
            f" lower-case letters and digits, at most {LONGEST_NAME} in all; for example main"
        )
    return name


def owner(name: str) -> str | None:
    """Return the deployment that a resource belongs to by its name; None if not Easel's."""
    match = _OWNED.fullmatch(name)
    return match.group(1) if match else None


def others_in(parameters: Mapping[str, str]) -> list[str]:
    """Return the ARNs of the endpoints of others in front of which a deployment's URL is.

    Args:
        parameters: of its stack.
    """
    return [arn for arn in parameters.get("OtherEndpoints", "").split(",") if arn]


def digest(content: Any) -> str:
    """Return 8 hexadecimal digits of the hash of any JSON value."""
    # Sorted and compact, so that equal values have equal text.
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
