"""What a model says about itself: requested once it serves, and stored for the gateway.

Only the container knows all of it: the files of a model from the hub are nowhere else. `deploy`
cannot request it, because the model can be scaled to zero by then.
"""

from __future__ import annotations

import json
from typing import Any

from endpoint.aws.models import is_asynchronous
from endpoint.cli.context import Context
from endpoint.core.problems import BadArgument, InvocationError, NotReady, TookTooLong
from endpoint.provision.files.payload import description_key
from endpoint.provision.model_metadata import described_metadata, description
from endpoint.provision.settings_check import check_gateway

# It takes no GPU time, but other requests can be ahead of it.
_MOST_SECONDS = {"real-time": 120, "asynchronous": 600}


class Unusable(Exception):
    """The gateway could not use what a container answered."""


def store_description(context: Context, endpoint: str) -> None:
    """Request the description of the model that an endpoint serves, and store it in the bucket.

    A container that has none, because its code is older or not Easel's, is reported and prevents
    nothing: the gateway then gets what is known from the model's files.
    """
    if context.dry_run:
        return
    context.begin("description: what the model says about itself")
    served = (context.endpoints.find(endpoint) or {})["EndpointConfigName"]
    config = context.models.find_config(served) or {}
    name = context.deployment.model_of(endpoint)
    key = description_key(name, config["ProductionVariants"][0]["ModelName"])
    try:
        answer = _request(context, endpoint, asynchronous=is_asynchronous(config))
        content = json.dumps(_usable(name, answer)).encode()
    except (InvocationError, TookTooLong, Unusable) as error:
        context.console.say(
            f"  {endpoint} does not describe itself: {str(error)[:200]}"
            "\n  The gateway gets what is known from its settings and from files in the bucket."
        )
        return
    context.bucket.put(key, content)


def _request(context: Context, endpoint: str, *, asynchronous: bool) -> bytes:
    if asynchronous:
        file = f"describe-{int(context.clock.now().timestamp())}.json"
        return context.runtime.describe_async(endpoint, file, _MOST_SECONDS["asynchronous"])
    answers: list[bytes] = []

    def poll() -> str | None:
        try:
            answers.append(context.runtime.describe(endpoint))
        except NotReady as error:
            return f"{endpoint}: waiting for its description ({str(error)[:80]})"
        return None

    context.waiting.until_done(poll, at_most=_MOST_SECONDS["real-time"])
    return answers[0]


def _usable(name: str, answer: bytes) -> dict[str, Any]:
    """Return a container's answer, of which the gateway can read what it needs.

    Raises:
        Unusable: if it cannot.
    """
    try:
        described = json.loads(answer)
        metadata = described_metadata(described, None)
        descriptions = {name: description(described)}
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not a description: {error}") from error
    models = {name: {"endpoint": name, **metadata}}
    called = {"EASEL_MODELS": "its metadata", "EASEL_DESCRIPTIONS": "its text"}
    try:
        check_gateway(
            {
                "EASEL_MODELS": json.dumps(models),
                "EASEL_DESCRIPTIONS": json.dumps(descriptions),
            },
            names=called,
        )
    except BadArgument as error:
        raise Unusable(str(error)) from error
    result: dict[str, Any] = described
    return result
