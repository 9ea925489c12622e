"""What a script works with: the deployment, the AWS services, the console."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property

from endpoint.aws.bucket import Bucket
from endpoint.aws.builds import Builds
from endpoint.aws.change_sets import ChangeSets
from endpoint.aws.endpoints import Endpoints
from endpoint.aws.gateway import Gateway
from endpoint.aws.logs import Logs
from endpoint.aws.models import Models
from endpoint.aws.network import Network
from endpoint.aws.quotas import Quotas
from endpoint.aws.registry import Registry
from endpoint.aws.runtime import Runtime
from endpoint.aws.scaling import Scaling
from endpoint.aws.schedules import Schedules
from endpoint.aws.stacks import Stacks
from endpoint.aws.tagged import Tagged
from endpoint.aws.training import Training
from endpoint.core.account import Account
from endpoint.core.console import Console
from endpoint.core.naming import Deployment, check_name
from endpoint.core.problems import BadArgument
from endpoint.core.waiting import Waiting


class Context:
    """One deployment in one account, with the AWS services that it uses.

    Args:
        name: the deployment's name.
        dry_run: change nothing, and therefore wait for nothing.

    Attributes:
        started: when the script began.
        begun: the steps that this run began, for a report when AWS cannot be asked any more.

    Raises:
        BadArgument: if the name is not valid for a deployment.
    """

    def __init__(
        self, account: Account, console: Console, name: str, *, dry_run: bool = False
    ) -> None:
        # Here and not in `deployment`, so that a wrong name costs no call.
        self.name = check_name(name)
        self.account = account
        self.console = console
        self.clock = account.clock
        self.started = account.clock.now()
        self.dry_run = dry_run
        self.waiting = Waiting(account.clock, console, pretend=dry_run)
        self.begun: list[str] = []

    def begin(self, step: str) -> None:
        """Print a step, and keep it for the report of a failure."""
        self.begun.append(step)
        self.console.say(f"- {step}")

    @cached_property
    def deployment(self) -> Deployment:
        """The deployment; the first access calls STS for the account."""
        account = self.account
        return Deployment(self.name, account.id, account.region, account.partition)

    def choose_endpoint(self, model: str | None) -> str:
        """Return the name of a model's endpoint; without a model, of the deployment's only one.

        Raises:
            BadArgument: if there are several, or none.
        """
        deployment = self.deployment
        if model:
            return deployment.endpoint(model)
        names = self.endpoint_names()
        # With several models a guess could use the expensive one.
        if len(names) == 1:
            return names[0]
        models = ", ".join(deployment.model_of(name) for name in names) or "none"
        raise BadArgument(f"Choose a model with --model; available: {models}.")

    def endpoint_names(self) -> list[str]:
        """Return the names of the deployment's endpoints."""
        deployment = self.deployment
        return list(filter(deployment.owns, self.endpoints.names(f"{deployment.prefix}-")))

    def newest_configs(self) -> dict[str, str]:
        """Return the newest endpoint configuration of each model, by the model's name.

        An update that was interrupted leaves two.
        """
        newest: dict[str, str] = {}
        for item in self.models.configs(f"{self.deployment.prefix}-"):  # the newest first
            name = item["EndpointConfigName"]
            model = self.deployment.model_of_version(name)
            if model is not None:
                newest.setdefault(model, name)
        return newest

    # A boto3 client takes tens of milliseconds to create, so each is created on first use.

    @cached_property
    def stacks(self) -> Stacks:
        return Stacks(self.account.client("cloudformation"), self.waiting)

    @cached_property
    def change_sets(self) -> ChangeSets:
        return ChangeSets(self.account.client("cloudformation"), self.stacks, self.waiting)

    @cached_property
    def bucket(self) -> Bucket:
        return Bucket(self.account.client("s3"), self.deployment.bucket)

    @cached_property
    def source_bucket(self) -> Bucket:
        return self.bucket_called(self.deployment.source_bucket)

    def bucket_called(self, name: str) -> Bucket:
        """Return a bucket by its name."""
        return Bucket(self.account.client("s3"), name)

    def buckets(self) -> list[tuple[str, datetime]]:
        """Return the names of the account's buckets, and their creation dates."""
        buckets = self.account.client("s3").list_buckets()["Buckets"]
        return [(item["Name"], item["CreationDate"]) for item in buckets]

    @cached_property
    def models(self) -> Models:
        return Models(self.account.client("sagemaker"), self.waiting)

    @cached_property
    def endpoints(self) -> Endpoints:
        return Endpoints(self.account.client("sagemaker"), self.waiting)

    @cached_property
    def training(self) -> Training:
        return Training(self.account.client("sagemaker"), self.waiting)

    @cached_property
    def scaling(self) -> Scaling:
        return Scaling(
            self.account.client("application-autoscaling"), self.account.client("cloudwatch")
        )

    @cached_property
    def schedules(self) -> Schedules:
        return Schedules(self.account.client("scheduler"))

    @cached_property
    def logs(self) -> Logs:
        return Logs(self.account.client("logs"))

    @cached_property
    def quotas(self) -> Quotas:
        return Quotas(self.account.client("service-quotas"))

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.account.client("ecr"))

    @cached_property
    def builds(self) -> Builds:
        return Builds(self.account.client("codebuild"), self.account.client("events"))

    @cached_property
    def network(self) -> Network:
        return Network(self.account.client("ec2"), self.waiting)

    @cached_property
    def tagged(self) -> Tagged:
        return Tagged(
            self.account.client("resourcegroupstaggingapi"), self.account.client("budgets")
        )

    @cached_property
    def runtime(self) -> Runtime:
        client = self.account.client("sagemaker-runtime")
        return Runtime(client, self.account.client("s3"), self.waiting)

    @cached_property
    def gateway(self) -> Gateway:
        return Gateway(
            self.account.client("lambda"), self.account.client("apigateway"), self.waiting
        )
