"""Deploy models and the public URL in front of them, from nothing.

    checks       what would prevent it
    endpoints    as `create` makes them; none with --endpoint, which names somebody else's
    gateway      the Lambda function and API Gateway, by chalice, with throttling
    CDN          with --cdn: CloudFront in front of it, a stack of its own
    training     with --training: the trainer, the weights, and a stack of its own
    smoke test   the gateway's health, and one picture, through the public URL

The same command continues after any interruption, and updates what exists.
"""

from __future__ import annotations

import argparse
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions, add_deploy_options, common_parser
from endpoint.cli.script import Result
from endpoint.core.backends.backend import Backend
from endpoint.core.picture_files import is_whole
from endpoint.core.problems import AGAIN, ScriptError
from endpoint.provision import checks, infrastructure
from endpoint.provision.gateway import cdn, external, gateway
from endpoint.provision.serving import capacity, endpoint, lease, own_image
from endpoint.provision.training import setting, stack

# Takes a URL, and `key` as well where the gateway requires keys; raises OSError for an error.
Fetch = Callable[..., bytes]
_FIRST_ANSWER_SECONDS = 180  # a new API answers after some seconds, a picture within 29


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("deploy", "Deploy models and the public URL in front of them.")
    add_deploy_options(parser)
    return parser


def deploy(context: Context, options: DeployOptions, fetch: Fetch) -> Result:
    """Deploy, and return the URL."""
    each = options.own_options()
    # Whatever can be wrong with the options is wrong before the first endpoint costs money.
    chosen = [endpoint.check_options(model_options) for model_options in each]
    infrastructure.check_budget(options, context.account.region)
    external.check(context, options)
    gateway.check(context, options)
    cdn.check(context, options)
    setting.check(context, options)
    for model_options in each:
        checks.require_good(context, model_options)
    # Each may fit alone, and not all together.
    types = [
        endpoint.types_of(context, model_options, model)
        for model_options, model in zip(each, chosen, strict=True)
    ]
    names = [context.deployment.endpoint(model.name) for model in chosen]
    capacity.require_room(context, dict(zip(names, types, strict=True)))
    for line in lease.worst_month(context, options, list(zip(chosen, types, strict=True))):
        context.console.say(line)
    for model_options in each:
        endpoint.create(context, model_options)
    if not each:
        # Its image is built when a model of the deployment's own needs it.
        infrastructure.ensure(context, own_image.address(context), (), options)
    training = setting.prepare(context, options)
    url, key = gateway.deploy(context, options, training)
    url = cdn.update(context, options, url)
    # After the function, which its pipeline calls.
    stack.update(context, options, training)
    if context.dry_run:
        return Result({"url": None}, ["Dry run: nothing was deployed."])
    backend = gateway.default_backend(context)
    _smoke_test(context, url, partial(fetch, key=key) if key else fetch, backend)
    lines = [
        f"Easel is at {url}",
        f"  {url}inference/an astronaut riding a horse on mars",
        "`python -m endpoint status` shows its cost, and `./setup.sh destroy` deletes it.",
    ]
    return Result({"url": url}, lines)


def _smoke_test(context: Context, url: str, fetch: Fetch, backend: Backend) -> None:
    """Request the gateway's health and a picture, through the public URL."""
    context.begin(f"smoke test of {url}")
    # A seed that a model cannot use is refused.
    query = "?seed=1" if backend.repeats else ""
    kind = backend.abilities.formats[0]
    last_error = ""

    def poll() -> str | None:
        nonlocal last_error
        try:
            fetch(f"{url}health")
            picture = fetch(f"{url}inference/a%20smoke%20test{query}")
        # A new API answers 403 or 5xx at first; urllib's HTTPError is an OSError.
        except OSError as error:
            last_error = str(error)
            return f"the gateway does not answer yet ({last_error[:80]})"
        if not is_whole(picture, kind):
            raise ScriptError(
                f"{url} returned {len(picture)} bytes that are no whole {kind}.", AGAIN
            )
        return None

    try:
        context.waiting.until_done(poll, at_most=_FIRST_ANSWER_SECONDS, every=5)
    except ScriptError as error:
        raise ScriptError(
            f"The public URL does not work: {last_error or error}",
            f"The gateway's log group is /aws/lambda/{context.deployment.function}. {AGAIN}",
        ) from error


def fetch_url(url: str, key: str | None = None) -> bytes:
    """Return the body of a response; raises OSError for any status but success."""
    headers = {"Accept": "image/*", **({"x-api-key": key} if key else {})}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    # Longer than API Gateway's 29 s, so that its own error arrives first.
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - https, see url_of
        body: bytes = response.read()
        return body


def main(argv: Sequence[str] | None = None, fetch: Fetch = fetch_url, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), DeployOptions, partial(deploy, fetch=fetch), argv, **overrides)
