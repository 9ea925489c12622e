"""Look at everything that could stop a deployment, before anything is made or paid for.

credentials   whose account this is
rights        what the caller may not do, as far as IAM tells
quota         instances of the model's types, with the call that raises it
model         licence, gate and revision, asked of the hub
bucket        whether its name is free, or taken by somebody else
image         whether AWS has the serving image in the region
cost          per hour, day and month
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

if not __package__:  # run as `python endpoint/doctor.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from botocore.exceptions import ClientError

from endpoint.aws.quotas import raise_call
from endpoint.catalogue import models as catalogue
from endpoint.catalogue import prices
from endpoint.catalogue.models import Model
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.script import Result
from endpoint.core.problems import ScriptError, code_of, message_of
from endpoint.create_endpoint import add_options
from endpoint.provision.image import choose_image

State = Literal["good", "note", "bad"]
_MARKS = {"good": "ok  ", "note": "note", "bad": "BAD "}

# One action for each resource that the scripts do; who may do these may almost always do the rest.
ACTIONS = (
    "apigateway:POST",
    "application-autoscaling:RegisterScalableTarget",
    "cloudformation:CreateStack",
    "cloudwatch:PutMetricAlarm",
    "iam:CreateRole",
    "iam:PassRole",
    "lambda:CreateFunction",
    "logs:CreateLogGroup",
    "s3:CreateBucket",
    "s3:PutObject",
    "sagemaker:CreateEndpoint",
    "sagemaker:CreateEndpointConfig",
    "sagemaker:CreateModel",
    "sagemaker:DeleteEndpoint",
    "sagemaker:InvokeEndpoint",
)


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        subject: what was looked at.
        state: good, note (could not be found out, or worth knowing) or bad (will stop you).
        finding: what was found.
        advice: what to do about it.
    """

    subject: str
    state: State
    finding: str
    advice: str = ""

    def lines(self) -> Iterator[str]:
        """Return it for a person."""
        yield f"{_MARKS[self.state]} {self.subject}: {self.finding}"
        if self.advice:
            yield f"     {self.advice}"


AskHub = Callable[[Model], dict[str, Any]]


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("doctor", "Find out what would stop a deployment.")
    add_options(parsed)
    return parsed


def examine(
    context: Context, args: argparse.Namespace, ask_hub: AskHub | None = None
) -> list[Check]:
    """Return all findings, without changing anything.

    Raises:
        UnknownModel: if there is no such model.
        AwsError: if there are no credentials; nothing else can be asked then.
    """
    model = catalogue.resolve(args.model, args.revision)
    types = tuple(args.instance_type or model.instance_types)
    account = context.account
    found = [
        Check("credentials", "good", f"{account.caller['Arn']} in {account.region}"),
        _rights(context),
        *_quotas(context, types),
        _model(model, args.weights, ask_hub or ask_the_hub),
        _bucket(context),
        _image(context, args.image, types[0]),
        Check("cost", "good", f"at most {prices.in_words(prices.dearest(types))}",
              prices.provenance()),
    ]  # fmt: skip
    if model.asynchronous:
        advice = "It goes to zero instances, and to no price per hour, while nobody asks."
        found.append(Check("scaling", "good", f"{model.name} is asynchronous", advice))
    return found


def _rights(context: Context) -> Check:
    caller = context.account.caller["Arn"]
    if caller.endswith(":root"):
        return Check("rights", "note", "the account's root user may do everything", "Make a user.")
    try:
        answer = context.account.client("iam").simulate_principal_policy(
            PolicySourceArn=_policy_source(caller), ActionNames=list(ACTIONS)
        )
    except ClientError as error:
        return Check("rights", "note", f"IAM does not tell ({message_of(error) or code_of(error)})")
    denied = [
        result["EvalActionName"]
        for result in answer["EvaluationResults"]
        if result["EvalDecision"] != "allowed"
    ]
    if denied:
        advice = "Ask for them, or use --profile with one that has them."
        return Check("rights", "bad", f"not allowed: {', '.join(denied)}", advice)
    return Check("rights", "good", f"all {len(ACTIONS)} actions that were asked about are allowed")


def _policy_source(caller: str) -> str:
    """Return the ARN whose policies count: an assumed role's session stands for the role."""
    if ":assumed-role/" not in caller:
        return caller
    role = caller.partition(":assumed-role/")[2].partition("/")[0]
    return caller.partition(":assumed-role/")[0].replace(":sts:", ":iam:") + f":role/{role}"


def _quotas(context: Context, types: tuple[str, ...]) -> Iterator[Check]:
    quotas = context.quotas.read(types)
    if quotas is None:
        yield Check("quota", "note", "may not be read (servicequotas:ListServiceQuotas)")
        return
    usable = [name for name in types if quotas.get(name, (1.0, ""))[0] >= 1]
    for name in types:
        value, code = quotas.get(name, (None, ""))
        if value is None:
            yield Check("quota", "note", f"{name} is not listed in {context.account.region}")
        elif value >= 1:
            yield Check("quota", "good", f"{value:g} instances of {name}")
        else:
            state: State = "note" if usable else "bad"
            yield Check("quota", state, f"no instance of {name}",
                        raise_call(code, context.account.region))  # fmt: skip


def _model(model: Model, weights: str, ask_hub: AskHub) -> Check:
    if model.source is None:
        return Check("model", "good", f"{model.folder}", "Its licence is yours to know.")
    said = f"{model.repository} at {model.source.revision[:12]}, licence: {model.licence}"
    try:
        told = ask_hub(model)
    except Exception as error:  # noqa: BLE001 - the hub's library and its errors are not fixed
        return Check("model", "note", said, f"The hub could not be asked: {str(error)[:120]}")
    gated = bool(told.get("gated", model.gated))
    if gated and weights == "fetch":
        advice = "Accept its terms on its page, set HF_TOKEN here, and use --weights s3."
        return Check("model", "bad", f"{said}; gated", advice)
    return Check("model", "good", f"{said}; {'gated' if gated else 'open to all'}")


def ask_the_hub(model: Model) -> dict[str, Any]:
    """Return what the Hugging Face hub says of a model; raises what its library raises."""
    import huggingface_hub

    if model.source is None:
        return {}
    info = huggingface_hub.HfApi().model_info(
        model.source.name, revision=model.source.revision, timeout=10
    )
    return {"gated": bool(info.gated)}


def _bucket(context: Context) -> Check:
    name = context.deployment.bucket
    try:
        there = context.bucket.exists()
    except ClientError as error:
        if code_of(error) not in {"403", "AccessDenied", "Forbidden"}:
            raise
        return Check("bucket", "bad", f"{name} is not yours, or hidden from you",
                     "Take another --name, or ask for s3:ListBucket.")  # fmt: skip
    return Check("bucket", "good", f"{name} {'is there' if there else 'is free'}")


def _image(context: Context, uri: str | None, instance_type: str) -> Check:
    try:
        image = choose_image(uri, context.account.region, instance_type)
    except ScriptError as error:
        return Check("image", "bad", str(error), error.advice)
    there = context.registry.has(image)
    if there is None:
        return Check("image", "note", f"{image.uri}; whether it exists may not be asked")
    if not there:
        return Check("image", "bad", f"{image.uri} does not exist", "Name another with --image.")
    return Check("image", "good", image.uri)


def doctor(context: Context, args: argparse.Namespace) -> Result:
    """Examine, and fail if anything would stop a deployment."""
    found = examine(context, args)
    bad = [check for check in found if check.state == "bad"]
    lines = [line for check in found for line in check.lines()]
    lines.append(f"{len(bad)} of these would stop you." if bad else "Nothing would stop you.")
    return Result({"checks": [asdict(check) for check in found]}, lines, good=not bad)


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), doctor, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
