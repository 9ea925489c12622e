"""CloudFront in front of the gateway, with `deploy --cdn`: a stack of its own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from endpoint.aws.gateway import STAGE
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions
from endpoint.core.problems import BadArgument
from endpoint.provision.gateway.gateway_access import CDN
from endpoint.provision.gateway.gateway_project import url_of

TEMPLATE = Path(__file__).parents[2] / "cdn.yaml"


def check(context: Context, options: DeployOptions) -> None:
    """Raise BadArgument if there is no CloudFront to deploy to."""
    if options.cdn and context.deployment.partition != "aws":
        raise BadArgument(
            f"--cdn is not offered in {context.account.region}: CloudFront belongs to the"
            " partition aws."
        )


def update(context: Context, options: DeployOptions, url: str) -> str:
    """Create or update the stack of a gateway with a CDN; delete it with --no-cdn.

    Args:
        context: the deployment.
        options: the command's.
        url: of the gateway.

    Returns:
        The URL to use: the CDN's, or the gateway's own.
    """
    deployment = context.deployment
    if context.dry_run:
        return url
    function = context.gateway.function(deployment.function) or {}
    secret = function.get("Environment", {}).get("Variables", {}).get(CDN)
    if secret is None:
        if options.cdn is False and context.stacks.find(deployment.cdn_stack) is not None:
            context.begin(f"CDN: stack {deployment.cdn_stack} is deleted, which takes minutes")
            context.stacks.delete(deployment.cdn_stack)
        return url
    context.begin(f"CDN: stack {deployment.cdn_stack}, which takes minutes")
    (api,) = context.gateway.apis_of(deployment.function_arn)
    parameters = {
        "DeploymentName": deployment.name,
        "ApiDomain": urlsplit(url_of(api, deployment.region)).netloc,
        "Secret": secret,
    }
    template = TEMPLATE.read_text("utf-8")
    context.stacks.ensure(deployment.cdn_stack, template, parameters, deployment.tags)
    domain = context.stacks.outputs(deployment.cdn_stack)["DomainName"]
    return f"https://{domain}/{STAGE}/"
