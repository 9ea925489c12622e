"""A deployment's CloudFormation stack: bucket, roles, guard, dashboard, budget, private network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from endpoint.aws.network import MOST_ZONES
from endpoint.aws.registry import Image
from endpoint.catalogue import prices
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions, EndpointOptions
from endpoint.core.naming import digest, others_in
from endpoint.core.problems import BadArgument, StackFailed

# CloudFormation passes S3's message on, here without and there with its code.
_NAME_NOT_FREE = re.compile(r"OperationAborted|conflicting conditional operation", re.I)
_NAME_SECONDS = 3600
# For which a picture occupies the gateway's function, on the average.
_PICTURE_SECONDS = 10.0
TEMPLATE = Path(__file__).parents[1] / "infrastructure.yaml"
GUARD = TEMPLATE.with_name("guard.py")
# CloudFormation has AWS::Budgets::Budget in these alone, and refuses a template that names it
# elsewhere. A budget covers all regions, wherever it is made.
BUDGET_REGIONS = frozenset(
    [
        "ap-northeast-1",
        "ap-northeast-2",
        "ap-south-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ca-central-1",
        "cn-north-1",
        "cn-northwest-1",
        "eu-central-1",
        "eu-west-1",
        "eu-west-2",
        "eu-west-3",
        "me-south-1",
        "sa-east-1",
        "us-east-1",
        "us-east-2",
        "us-west-1",
        "us-west-2",
    ]
)
# CloudFormation has no AWS::CodeBuild::Project there.
REGIONS_WITHOUT_BUILDS = frozenset(["ap-east-2", "ca-west-1", "mx-central-1"])
_BUDGET = re.compile(r"^  Budget:\n(?:    .*\n)+", re.M)
_BUILDS = re.compile(r"^  (?:BuildProject|BuildRule):\n(?:    .*\n)+", re.M)


# What only the readers of the files and a linter need: CloudFormation takes 51,200 bytes in a call.
_COMMENTS = re.compile(r"^ *#.*\n|^\n|^    Metadata:\n      checkov:\n(?:        .*\n)+", re.M)
_DOCSTRING = re.compile(r'\A""".*?"""\n', re.S)
_INDENTATION = re.compile(r"^(?: {4})+", re.M)
_CODE = re.compile(r'^( *)ZipFile: "endpoint/guard.py"\n', re.M)


def template(region: str) -> str:
    """Return the template for a region, with the guard's code in it.

    Comments are left out, and so are the reasons for which checkov passes over a resource.
    """
    text = TEMPLATE.read_text("utf-8")
    text = text if region in BUDGET_REGIONS else _BUDGET.sub("", text)
    text = _BUILDS.sub("", text) if region in REGIONS_WITHOUT_BUILDS else text
    return _CODE.sub(_guard, _COMMENTS.sub("", text))


def _guard(place: re.Match[str]) -> str:
    """Return the guard's code as a block of the template."""
    code = _COMMENTS.sub("", _DOCSTRING.sub("", GUARD.read_text("utf-8")))
    # With one space for four, because every byte counts.
    code = _INDENTATION.sub(lambda spaces: " " * (len(spaces[0]) // 4), code)
    lines = "".join(f"{place[1]}  {line}\n" for line in code.splitlines())
    return f"{place[1]}ZipFile: |\n{lines}"


def check_budget(options: EndpointOptions, region: str) -> None:
    """Raise BadArgument if the options want a budget where CloudFormation has none."""
    if options.budget and region not in BUDGET_REGIONS:
        raise BadArgument(
            f"CloudFormation offers no budgets in {region}.",
            "Leave out --budget, and create a budget for Amazon SageMaker at"
            " https://console.aws.amazon.com/billing/home#/budgets: it covers every region.",
        )


def budget_version(email: str) -> str:
    """Return what the budget's name ends in: another one for another e-mail address or threshold.

    CloudFormation cannot change a budget's notifications, and replaces a resource with a name of
    its own only under another name.
    """
    budget = _BUDGET.search(TEMPLATE.read_text("utf-8"))
    return digest([email, budget and budget[0]])


def ensure(
    context: Context,
    image: Image,
    types: tuple[str, ...] = (),
    options: EndpointOptions | None = None,
) -> None:
    """Create the stack, or update it to the template and the options.

    A parameter that no option sets keeps its value: one stack serves all models of a deployment,
    and creating a second model must not remove the first one's network or budget.

    Args:
        context: the deployment.
        image: the serving image.
        types: the instance types of a model that is created.
        options: of that model; None if none is created.
    """
    context.begin(f"infrastructure: stack {context.deployment.stack}")
    _ensure_stack(context, parameters(context, image, types, options))


def parameters(
    context: Context, image: Image, types: tuple[str, ...], options: EndpointOptions | None
) -> dict[str, str]:
    """Return the template's parameters, of which those that no option sets stay as they are.

    The arguments are as in `ensure`.
    """
    deployment = context.deployment
    before = context.stacks.parameters(deployment.stack)
    # The dashboard's estimate is an upper limit, so it uses the most expensive type of all models.
    dearest = max(float(before.get("HourlyPrice", 0)), prices.dearest(types) or 0)
    budget, email = before.get("MonthlyBudget", "0"), before.get("AlarmEmail", "")
    network = options.private_network if options is not None else None
    cap, wake = before.get("MonthlyCap", "0"), before.get("Wake", "no")
    if options is not None:
        budget = f"{options.budget:g}" if options.budget else budget
        email = options.email or email
        cap = cap if options.monthly_cap is None else f"{options.monthly_cap:g}"
        wake = wake if options.wake is None else _yes(options.wake)
    zones = _zones(context, before, search=network is not None)
    return {
        "DeploymentName": deployment.name,
        "ImageRepositoryArns": ",".join(_repositories(context, image)),
        "HourlyPrice": f"{dearest:g}",
        "PrivateNetwork": "yes" if network else before.get("PrivateNetwork", "no"),
        "InterfaceEndpoints": (
            _yes(network == "endpoints") if network else before.get("InterfaceEndpoints", "no")
        ),
        # Always as many as the template can select.
        "Zones": ",".join([*zones, *["-"] * MOST_ZONES][:MOST_ZONES]),
        "ZoneCount": str(len(zones)),
        "MonthlyBudget": budget,
        "MonthlyCap": cap,
        "Prices": json.dumps(prices.per_hour()),
        "PicturePrice": f"{prices.gateway_per_picture(_PICTURE_SECONDS):.6f}",
        "Wake": wake,
        "OtherEndpoints": ",".join(_others(context, before, options)),
        "AlarmEmail": email,
        "BudgetVersion": budget_version(email),
    }


def endpoint_of(arn: str) -> str:
    """Return the name of an endpoint, in lower case as in every ARN of one."""
    return arn.rpartition("/")[2].lower()


def _others(
    context: Context, before: Mapping[str, str], options: EndpointOptions | None
) -> list[str]:
    known = others_in(before)
    if not isinstance(options, DeployOptions):
        return known
    without = {name.lower() for name in options.without_endpoint}
    kept = [arn for arn in known if endpoint_of(arn) not in without]
    if options.endpoint:
        description = context.endpoints.find(options.endpoint)
        if description is None:
            raise BadArgument(
                f"There is no endpoint {options.endpoint} in {context.account.region}."
            )
        kept.append(str(description["EndpointArn"]))
    return list(dict.fromkeys(kept))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _ensure_stack(context: Context, parameters: dict[str, str]) -> None:
    text, deployment = template(context.account.region), context.deployment

    def attempt() -> str | None:
        try:
            context.stacks.ensure(deployment.stack, text, parameters, deployment.tags)
        except StackFailed as error:
            # S3 frees the name of a deleted bucket only after some minutes.
            if not _NAME_NOT_FREE.search(str(error)):
                raise
            return f"waiting until S3 frees the name {deployment.bucket}"
        return None

    # Outside the wait, because a dry run waits for nothing but should print the call.
    if attempt() is not None:
        context.waiting.until_done(attempt, at_most=_NAME_SECONDS, every=60)


def _repositories(context: Context, image: Image) -> list[str]:
    """Return the ECR repositories of the deployment's models and of an image that is added.

    SageMaker pulls a model's image again whenever it starts an instance.
    """
    deployment = context.deployment
    images = [image]
    for item in context.models.models(f"{deployment.prefix}-"):
        model = context.models.find_model(item["ModelName"])
        # A search by name also finds other deployments' models.
        if model and deployment.owns(item["ModelName"]):
            images.append(Image.parse(model["PrimaryContainer"]["Image"]))
    return sorted({each.repository_arn(deployment.partition) for each in images})


def _zones(context: Context, before: dict[str, str], *, search: bool) -> list[str]:
    """Return the private network's zones; a subnet cannot be moved, so known ones stay first."""
    known = [zone for zone in before.get("Zones", "-").split(",") if zone != "-"]
    if not search:
        return known
    return [*known, *(zone for zone in context.network.zones() if zone not in known)][:MOST_ZONES]
