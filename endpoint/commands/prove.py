"""Prove on a real account that Easel works there, for a few dollars, and write down how.

    plan      what will be made, and the most that it can cost; asked once
    proof     two models, the gateway, a picture through each API, what AWS does, how fast it is
    clean-up  always: at the limit, at Ctrl-C, after an error

The record is `proof.json` and `proof.md`, without account number, names and keys.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from endpoint.cli import inventory, script
from endpoint.cli.context import Context
from endpoint.cli.options import (
    CommonOptions,
    DeployOptions,
    add_deploy_options,
    common_parser,
    image,
    instance_type,
    read,
)
from endpoint.cli.script import Result
from endpoint.core.account import Account
from endpoint.core.console import Console
from endpoint.core.http import Ask, ask
from endpoint.core.private_files import write_private
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.proof import run as proving
from endpoint.proof.meter import DELETING_SECONDS, OTHER_USD, Meter, MeteredClock
from endpoint.proof.record import Proof
from endpoint.provision.gateway.gateway_access import key_entry, new_key
from endpoint.provision.serving import own_image


@dataclass(frozen=True)
class ProveOptions(CommonOptions):
    """What a proof may cost, and where its record goes."""

    most: float
    image: str | None
    instance_type: tuple[str, ...] | None
    output: Path


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    description = "Prove on a real account that Easel works, and delete it."
    # Not `main`: what people use is neither updated nor deleted.
    parser = common_parser("prove", description, name="proof")
    add = parser.add_argument
    add("--most", type=float, default=3, metavar="USD", help="end before it costs more (3)")
    own = "the serving image: aws, a name, or a URI in ECR (default: Easel's own)"
    add("--image", type=image, help=own)
    repeatable = "repeatable: tried in this order"
    add("--instance-type", type=instance_type, action="append", help=repeatable)
    add("--output", type=Path, default=Path("proof"), help="folder of the record (proof)")
    return parser


def prove(context: Context, options: ProveOptions, asking: Ask) -> Result:
    """Show the plan, ask, prove, clean up, and write the record."""
    key = new_key()
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "keys.json")
        write_private(keys, _keys_file(key))
        deploying = _deploy_options(options, keys)
        _plan(context, options, deploying)
        if context.dry_run:
            return Result({"proof": None}, ["Dry run: nothing was proved."])
        meter = Meter(context.clock, options.most)
        facts = {"region": context.account.region, "python": platform.python_version()}
        proof = Proof(context.clock, meter, facts)
        try:
            failure = _run(context, deploying, asking, key, meter, proof)
        finally:
            proof.write(options.output, {context.account.id: "<account>", key: "<key>"})
    return _result(options, proof, failure)


def _keys_file(key: str) -> str:
    return json.dumps([key_entry("proof", key)])


def _deploy_options(options: ProveOptions, keys: Path) -> DeployOptions:
    """Return the options of `deploy`, with the defaults that people get."""
    parser = common_parser("deploy", "")
    add_deploy_options(parser)
    argv = ["--name", str(options.name), "--model", proving.REAL_TIME]
    argv += ["--also", proving.ASYNCHRONOUS, "--keys", str(keys)]
    # The first endpoint costs money while the second one's weights would be uploaded from here.
    argv += ["--weights", "fetch"]
    argv += ["--image", options.image] if options.image else []
    for name in options.instance_type or ():
        argv += ["--instance-type", name]
    return read(DeployOptions, parser.parse_args(argv))


def _plan(context: Context, options: ProveOptions, deploying: DeployOptions) -> None:
    """Show what a proof does and costs, and ask.

    Raises:
        BadArgument: if --most is too low to begin.
        ScriptError: if the deployment exists.
        Declined: if the operator does not agree.
    """
    names = (proving.REAL_TIME, proving.ASYNCHRONOUS)
    hourly = sum(proving.price_of(deploying, name) for name in names)
    least = OTHER_USD + hourly * DELETING_SECONDS / 3600
    if not (math.isfinite(options.most) and options.most > least):
        raise BadArgument(
            f"--most must be a number above {least:.2f} USD: deleting the endpoints takes minutes."
        )
    existing = inventory.scan(context, context.name).resources
    if existing:
        raise ScriptError(
            f"The deployment {context.name} exists: {existing[0].line()}.",
            f"Choose another --name, or run `./setup.sh destroy --name {context.name}`.",
        )
    minutes = (options.most - least) / hourly * 60
    say = context.console.say
    say(f"A proof in {context.account.region}, as the deployment {context.name}:")
    say(f"  endpoints for {names[0]} and, asynchronous, {names[1]}: {hourly:.3f} USD per hour")
    say("  a gateway that requires a key; pictures through every API; what AWS does; times")
    if options.image is None:
        for line in own_image.plan(context, own_image.address(context)):
            say(f"  {line}")
    say("  everything is deleted at the end, and after an error, at Ctrl-C, or at the limit")
    say(f"It costs at most {options.most:.2f} USD: it ends after {minutes:.0f} minutes with both")
    say("endpoints, if it is not done before.")
    context.console.ask("Begin?")


def _run(
    context: Context, deploying: DeployOptions, asking: Ask, key: str, meter: Meter, proof: Proof
) -> BaseException | None:
    """Prove and clean up; return what ended the proof early."""
    account = Account(context.account.session, MeteredClock(context.clock, meter))
    # The one question was asked.
    console = Console(context.clock, as_json=context.console.as_json, yes=True)
    metered = Context(account, console, context.name)
    run = proving.Run(metered, deploying, asking, key, meter, proof)
    failure: BaseException | None = None
    with _terminated_as_interrupted():
        try:
            run.prove()
        except (ScriptError, KeyboardInterrupt) as error:
            failure = error
            console.say(f"error: {error or 'interrupted'}; cleaning up")
        finally:
            # Also after an error of this program's own.
            proving.clean_up(Context(context.account, console, context.name), meter, proof)
    return failure


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C: what costs money is deleted first."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _result(options: ProveOptions, proof: Proof, failure: BaseException | None) -> Result:
    data = proof.to_dict()
    refuted = [each.id for each in proof.findings.values() if each.verdict == "did not hold"]
    lines = [
        f"Record: {options.output / 'proof.md'} and {options.output / 'proof.json'}.",
        f"It cost at most {data['usd_at_most']:.2f} USD.",
    ]
    if failure is not None:
        lines.append(f"It ended early: {str(failure) or 'interrupted'}")
    if refuted:
        lines.append(f"Did not hold: {', '.join(refuted)}.")
    left = ", ".join(proof.left)
    lines.append(f"Left: {left}." if left else "Everything is deleted; nothing costs anything.")
    return Result(data, lines, good=proof.good and failure is None)


def main(argv: Sequence[str] | None = None, asking: Ask = ask, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), ProveOptions, partial(prove, asking=asking), argv, **overrides)
