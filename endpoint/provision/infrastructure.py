"""A deployment's CloudFormation stack: bucket, roles, dashboard, budget, private network."""

from __future__ import annotations

from pathlib import Path

from endpoint.aws.registry import Image
from endpoint.catalogue import prices
from endpoint.cli.context import Context
from endpoint.cli.options import EndpointOptions

TEMPLATE = Path(__file__).parents[1] / "infrastructure.yaml"


def ensure(
    context: Context, image: Image, types: tuple[str, ...], options: EndpointOptions
) -> None:
    """Create the stack, or update it to the template and the options.

    A parameter that no option sets keeps its value: one stack serves all models of a deployment,
    and creating a second model must not remove the first one's network or budget.
    """
    deployment = context.deployment
    context.begin(f"infrastructure: stack {deployment.stack}")
    before = context.stacks.parameters(deployment.stack)
    # The dashboard's estimate is an upper limit, so it uses the most expensive type of all models.
    dearest = max(float(before.get("HourlyPrice", 0)), prices.dearest(types) or 0)
    budget = f"{options.budget:g}" if options.budget else before.get("MonthlyBudget", "0")
    parameters = {
        "DeploymentName": deployment.name,
        "ImageRepositoryArn": image.repository_arn(deployment.partition),
        "HourlyPrice": f"{dearest:g}",
        "PrivateNetwork": "yes" if options.private_network else before.get("PrivateNetwork", "no"),
        "MonthlyBudget": budget,
        "AlarmEmail": options.email or before.get("AlarmEmail", ""),
    }
    template = TEMPLATE.read_text("utf-8")
    context.stacks.ensure(deployment.stack, template, parameters, deployment.tags)
